/**
 * @nestjs/microservices over its RMQ transport. Decorators are called as the functions they are, because the syntax
 * does not go through the tools that only strip types.
 */
import 'reflect-metadata';
import { Controller, type INestMicroservice, Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import {
  ClientProxyFactory,
  type ClientRMQ,
  EventPattern,
  MessagePattern,
  type RmqOptions,
  RpcException,
  Transport,
} from '@nestjs/microservices';
import { firstValueFrom, type Observable, timeout, toArray } from 'rxjs';
import { afterEach, describe, expect, it } from 'vitest';
import { itAdministered, useBroker } from '../support/broker-under-test.ts';
import { eventually } from '../support/eventually.ts';
import { amqpUrl, forceClosed, Inbox } from './clients.ts';

const broker = useBroker();
const opened: { close(): unknown }[] = [];
const events = new Inbox<unknown>();

/** The controller of Nest's documentation, with one handler that fails. */
class MathController {
  accumulate(data: readonly number[]): number {
    return data.reduce((a, b) => a + b, 0);
  }

  divide([a = 0, b = 0]: readonly number[]): number {
    if (b === 0) throw new RpcException('division by zero');
    return a / b;
  }

  userCreated(data: unknown): void {
    events.add(data);
  }
}

class MathModule {}

function decorate(method: keyof MathController, decorator: MethodDecorator): void {
  const descriptor = Object.getOwnPropertyDescriptor(MathController.prototype, method);
  if (descriptor) decorator(MathController.prototype, method, descriptor);
}
Controller()(MathController);
decorate('accumulate', MessagePattern({ cmd: 'sum' }));
decorate('divide', MessagePattern({ cmd: 'divide' }));
decorate('userCreated', EventPattern('user_created'));
Module({ controllers: [MathController] })(MathModule);

function transport(queue: string, others: RmqOptions['options'] = {}): RmqOptions {
  return {
    transport: Transport.RMQ,
    options: {
      urls: [amqpUrl(broker)],
      queue,
      queueOptions: { durable: false, autoDelete: true },
      socketOptions: { reconnectTimeInSeconds: 0.02 },
      ...others,
    },
  };
}

interface Service {
  readonly client: ClientRMQ;
  ask<T>(pattern: unknown, data: unknown): Promise<T>;
}

/** Starts the microservice and a client of it on one queue. A client that is told to ack could not get replies. */
async function start({ noAck = true, ...others }: RmqOptions['options'] = {}): Promise<Service> {
  const queue = broker.fresh('cats_queue');
  const options = { ...transport(queue, { ...others, noAck }), logger: false as const };
  const service: INestMicroservice = await NestFactory.createMicroservice(MathModule, options);
  opened.push(service);
  await service.listen();
  const client = ClientProxyFactory.create(transport(queue, others)) as unknown as ClientRMQ;
  opened.push(client);
  await client.connect();
  const ask = <T>(pattern: unknown, data: unknown): Promise<T> =>
    firstValueFrom(client.send<T>(pattern, data).pipe(timeout(3000)) as Observable<T>);
  return { client, ask };
}

afterEach(async () => {
  events.items.length = 0;
  for (const what of opened.splice(0).reverse()) await what.close();
});

describe('the example of its documentation', () => {
  it('answers a request over direct reply-to', async () => {
    const { ask } = await start();
    expect(await ask({ cmd: 'sum' }, [1, 2, 3, 4])).toBe(10);
  });

  it('keeps a hundred answers apart', async () => {
    const { ask } = await start();
    const sums = await Promise.all(Array.from({ length: 100 }, (_, n) => ask<number>({ cmd: 'sum' }, [n, n])));
    expect(sums).toEqual(Array.from({ length: 100 }, (_, n) => 2 * n));
  });

  it('takes an event', async () => {
    const { client } = await start();
    await firstValueFrom(client.emit('user_created', { name: 'Ada' }).pipe(toArray()));
    await eventually(() => expect(events.items).toEqual([{ name: 'Ada' }]));
  });

  it('routes by pattern over a topic exchange with wildcards', async () => {
    const { client } = await start({ wildcards: true, exchangeArguments: {} });
    await firstValueFrom(client.emit('user_created', 'by topic').pipe(toArray()));
    await eventually(() => expect(events.items).toEqual(['by topic']));
  });
});

describe('what goes wrong', () => {
  it('an exception of the handler reaches the caller', async () => {
    const { ask } = await start();
    await expect(ask({ cmd: 'divide' }, [1, 0])).rejects.toMatchObject({ message: 'division by zero' });
  });

  it('a request that nobody handles is answered with an error, and with acks nacked to the dead-letter queue', async () => {
    const connection = await broker.amqplib();
    const channel = await connection.createChannel();
    const { queue: graveyard } = await channel.assertQueue('', { exclusive: true });
    const queueOptions = {
      durable: false,
      autoDelete: true,
      arguments: { 'x-dead-letter-exchange': '', 'x-dead-letter-routing-key': graveyard },
    };
    const { client } = await start({ noAck: false, queueOptions });
    await firstValueFrom(client.emit('nobody_listens', 'lost').pipe(toArray()));
    const dead = await eventually(async () => {
      const message = await channel.get(graveyard, { noAck: true });
      if (message === false) throw new Error('nothing there yet');
      return message;
    });
    expect(JSON.parse(dead.content.toString())).toEqual({ pattern: 'nobody_listens', data: 'lost' });
    expect(dead.properties.headers).toMatchObject({ 'x-first-death-reason': 'rejected' });
  });

  itAdministered('320: service and client connect again and requests are answered again', async () => {
    const { ask } = await start();
    expect(await ask({ cmd: 'sum' }, [1, 1])).toBe(2);
    await forceClosed(broker);
    await eventually(async () => expect(await ask({ cmd: 'sum' }, [2, 2])).toBe(4), { timeoutMs: 10_000 });
  });
});

/**
 * Large reads are lent to the messages in them and read into again when those are done with. Here messages, each unlike
 * every other, stay somewhere for a while, much is read in the meantime, and each must come out as it went in.
 */
import { type ChannelModel, type Channel as Client, connect } from 'amqplib';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { type EmbeddedWarren, startEmbedded } from '../../support/embedded-warren.ts';
import { eventually } from '../../support/eventually.ts';

const COUNT = 400;
const NOISE = 1200;

let warren: EmbeddedWarren;
let connection: ChannelModel;
let client: Client;

beforeEach(async () => {
  warren = await startEmbedded();
  connection = await connect(`amqp://guest:guest@${warren.host}:${warren.port}`);
  client = await connection.createChannel();
  await client.assertQueue('q');
});

afterEach(async () => {
  await connection.close();
  await warren.close();
});

function bodyOf(number: number): Buffer {
  return Buffer.alloc(200 + (number % 1200), `${number} `);
}

/** The number of a body; NaN for one that is not as it was sent. */
function numberOf(body: Uint8Array): number {
  const number = Number.parseInt(Buffer.from(body.subarray(0, 10)).toString(), 10);
  return bodyOf(number).equals(body) ? number : Number.NaN;
}

const NUMBERS = Array.from({ length: COUNT }, (_, number) => number);

/** Publishes the messages all at once, so that they are read in large pieces. */
function publishAll(exchange: string, routingKey: string): void {
  for (const number of NUMBERS) client.publish(exchange, routingKey, bodyOf(number));
}

/** Sends many other messages through, and resolves when they have come out: every free chunk has been read into. */
async function makeNoise(): Promise<void> {
  const { queue } = await client.assertQueue('', { exclusive: true });
  const heard: number[] = [];
  await client.consume(queue, (message) => message && heard.push(numberOf(message.content)), { noAck: true });
  for (let number = 0; number < NOISE; number += 1) client.sendToQueue(queue, bodyOf(COUNT + number));
  await eventually(() => expect(heard).toHaveLength(NOISE));
  expect(heard.every((number, index) => number === COUNT + index)).toBe(true);
}

/** Takes what waits in a queue, in order. */
async function drain(queue: string): Promise<number[]> {
  const drained: number[] = [];
  await client.consume(queue, (message) => message && drained.push(numberOf(message.content)), { noAck: true });
  await eventually(() => expect(drained.length).toBe(COUNT));
  return drained;
}

it('messages that a consumer in this process keeps stay as they are', async () => {
  const channel = (await warren.embedded.connect()).openChannel();
  const kept: Uint8Array[] = [];
  await channel.consume(
    { queue: 'q' },
    {
      onDeliver: ({ body }, tag) => {
        kept.push(body);
        channel.ack(tag);
      },
    },
  );
  publishAll('', 'q');
  await eventually(() => expect(kept).toHaveLength(COUNT));
  await makeNoise();
  expect(kept.map(numberOf)).toEqual(NUMBERS);
});

it('messages that are acked in one queue stay as they are in another', async () => {
  await client.assertQueue('other');
  for (const queue of ['q', 'other']) await client.bindQueue(queue, 'amq.fanout', '');
  let acked = 0;
  await client.consume('q', (message) => {
    if (message === null) return;
    client.ack(message);
    acked += 1;
  });
  publishAll('amq.fanout', '');
  await eventually(() => expect(acked).toBe(COUNT));
  await makeNoise();
  expect(await drain('other')).toEqual(NUMBERS);
});

it('messages that come back to a queue are as they were', async () => {
  const consuming = await connection.createChannel();
  const first: number[] = [];
  await consuming.consume('q', (message) => message && first.push(numberOf(message.content)));
  publishAll('', 'q');
  await eventually(() => expect(first).toEqual(NUMBERS));
  await makeNoise();
  await consuming.close();
  expect(await drain('q')).toEqual(NUMBERS);
});

it('messages that wait stay as they are, and messages that pass through are as they were', async () => {
  publishAll('', 'q');
  await makeNoise();
  await makeNoise();
  expect(await drain('q')).toEqual(NUMBERS);
});

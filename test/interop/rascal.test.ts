/** rascal: topology from a configuration, and recovery strategies that lean on dead-lettering and its headers. */
import type { Message } from 'amqplib';
import rascal, { type AckOrNack, type BrokerAsPromised, type BrokerConfig, type VhostConfig } from 'rascal';
import { afterEach, describe, expect, it } from 'vitest';
import { itAdministered, useBroker } from '../support/broker-under-test.ts';
import { eventually } from '../support/eventually.ts';
import { amqpUrl, forceClosed, Inbox } from './clients.ts';

const broker = useBroker();
const opened: BrokerAsPromised[] = [];

afterEach(async () => {
  for (const application of opened.splice(0)) await application.nuke();
});

interface Running {
  readonly application: BrokerAsPromised;
  readonly errors: Inbox<Error>;
}

/** Starts what the configuration says in the virtual host under test; deletes it all after the test. */
async function start(vhost: VhostConfig, others: BrokerConfig = {}): Promise<Running> {
  const connection = { url: amqpUrl(broker), retry: { min: 10, max: 50, factor: 1, strategy: 'linear' as const } };
  const config = { ...others, vhosts: { [broker.vhost]: { connection, ...vhost } } };
  const application = await rascal.BrokerAsPromised.create(rascal.withDefaultConfig(config));
  const errors = new Inbox<Error>();
  application.on('error', errors.add);
  opened.push(application);
  return { application, errors };
}

type OnMessage = (message: Message, content: unknown, ackOrNack: AckOrNack) => void;

async function subscribe({ application }: Running, name: string, onMessage: OnMessage): Promise<void> {
  const subscription = await application.subscribe(name);
  subscription.on('message', onMessage).on('error', () => {});
}

async function publish({ application }: Running, name: string, content: unknown): Promise<void> {
  const publication = await application.publish(name, content);
  await new Promise<void>((resolve, reject) => {
    publication.on('success', () => resolve()).on('error', reject);
  });
}

const DEMO = {
  exchanges: ['demo_ex'],
  queues: ['demo_q'],
  bindings: ['demo_ex[a.b.c] -> demo_q'],
  publications: { demo_pub: { exchange: 'demo_ex', routingKey: 'a.b.c', options: { persistent: false } } },
  subscriptions: { demo_sub: { queue: 'demo_q' } },
} satisfies VhostConfig;

describe('the example of its README', () => {
  it('publishes to an exchange and consumes from the queue that is bound to it', async () => {
    const demo = await start(DEMO);
    const received = new Inbox<unknown>();
    await subscribe(demo, 'demo_sub', (_message, content, ackOrNack) => {
      received.add(content);
      ackOrNack();
    });
    await publish(demo, 'demo_pub', 'hello world');
    await publish(demo, 'demo_pub', { json: true });
    await eventually(() => expect(received.items).toEqual(['hello world', { json: true }]));
    expect(demo.errors.items).toEqual([]);
  });

  it('tells the publisher of a mandatory message that nobody wants', async () => {
    const { application } = await start({
      exchanges: ['demo_ex'],
      publications: { lost: { exchange: 'demo_ex', routingKey: 'nobody', options: { mandatory: true } } },
    });
    const publication = await application.publish('lost', 'hello?');
    const returned = await new Promise<Message>((resolve) => publication.on('return', resolve));
    expect(returned.fields).toMatchObject({ replyCode: 312, replyText: 'NO_ROUTE', routingKey: 'nobody' });
  });
});

describe('recovery of a failed message', () => {
  it('nack: the message is found in the dead-letter queue with its x-death', async () => {
    const demo = await start({
      ...DEMO,
      exchanges: ['demo_ex', 'dead_letters'],
      queues: {
        demo_q: { options: { arguments: { 'x-dead-letter-exchange': 'dead_letters' } } },
        graveyard: {},
      },
      bindings: ['demo_ex[a.b.c] -> demo_q', 'dead_letters[#] -> graveyard'],
      subscriptions: { demo_sub: { queue: 'demo_q' }, dead: { queue: 'graveyard' } },
    });
    await subscribe(demo, 'demo_sub', (_message, _content, ackOrNack) => ackOrNack(new Error('no')));
    const dead = new Inbox<Message>();
    await subscribe(demo, 'dead', (message, _content, ackOrNack) => {
      dead.add(message);
      ackOrNack();
    });
    await publish(demo, 'demo_pub', 'bad');
    await eventually(() => expect(dead.items).toHaveLength(1));
    expect(dead.items[0]?.fields).toMatchObject({ exchange: 'dead_letters', routingKey: 'a.b.c' });
    expect(dead.items[0]?.properties.headers).toMatchObject({
      'x-first-death-exchange': 'demo_ex',
      'x-first-death-queue': 'demo_q',
      'x-first-death-reason': 'rejected',
      'x-death': [{ count: 1, exchange: 'demo_ex', queue: 'demo_q', reason: 'rejected', 'routing-keys': ['a.b.c'] }],
    });
  });

  it('forward to a delay queue: the message comes back twice, x-death counts, then it is dead-lettered', async () => {
    const demo = await start({
      exchanges: ['service', 'delay', 'retry', 'dead_letters'],
      queues: {
        save: {
          options: {
            arguments: { 'x-dead-letter-exchange': 'dead_letters', 'x-dead-letter-routing-key': 'service.dead_letter' },
          },
        },
        'delay:20ms': { options: { arguments: { 'x-message-ttl': 20, 'x-dead-letter-exchange': 'retry' } } },
        graveyard: {},
      },
      bindings: [
        'service[user.created.#] -> save',
        'delay[delay.20ms] -> delay:20ms',
        'retry[save.#] -> save',
        'dead_letters[service.dead_letter] -> graveyard',
      ],
      publications: {
        created: { exchange: 'service', routingKey: 'user.created' },
        retry_soon: { exchange: 'delay', options: { CC: ['delay.20ms'] } },
      },
      subscriptions: { save: { queue: 'save', contentType: 'text/plain' }, dead: { queue: 'graveyard' } },
    });
    const attempts = new Inbox<Message>();
    await subscribe(demo, 'save', (message, _content, ackOrNack) => {
      attempts.add(message);
      ackOrNack(new Error('still no'), [
        { strategy: 'forward', attempts: 2, publication: 'retry_soon' },
        { strategy: 'nack' },
      ]);
    });
    const dead = new Inbox<Message>();
    await subscribe(demo, 'dead', (message, _content, ackOrNack) => {
      dead.add(message);
      ackOrNack();
    });
    await publish(demo, 'created', 'somebody');
    await eventually(() => expect(dead.items).toHaveLength(1), { timeoutMs: 6000 });
    expect(attempts.items.map(({ fields }) => fields.routingKey)).toEqual(Array(3).fill('user.created'));
    const deaths = dead.items[0]?.properties.headers?.['x-death'];
    expect(deaths).toMatchObject([
      { queue: 'save', reason: 'rejected', count: 1 },
      { queue: 'delay:20ms', reason: 'expired', count: 2, exchange: 'delay' },
    ]);
  });

  it('republish with immediate nack: the message is dead-lettered with the error in its headers', async () => {
    const demo = await start({
      exchanges: ['dead_letters'],
      queues: {
        work: { options: { arguments: { 'x-dead-letter-exchange': 'dead_letters' } } },
        graveyard: {},
      },
      bindings: ['dead_letters[#] -> graveyard'],
      publications: { work: { queue: 'work' } },
      subscriptions: { work: { queue: 'work' }, dead: { queue: 'graveyard' } },
    });
    const attempts = new Inbox<Message>();
    await subscribe(demo, 'work', (message, _content, ackOrNack) => {
      attempts.add(message);
      ackOrNack(new Error('cannot be done'), [{ strategy: 'republish', immediateNack: true }]);
    });
    const dead = new Inbox<Message>();
    await subscribe(demo, 'dead', (message, _content, ackOrNack) => {
      dead.add(message);
      ackOrNack();
    });
    await publish(demo, 'work', 'impossible');
    await eventually(() => expect(dead.items).toHaveLength(1));
    expect(attempts.items).toHaveLength(1);
    expect(dead.items[0]?.properties.headers).toMatchObject({
      rascal: { error: { message: 'cannot be done' } },
      'x-death': [{ queue: 'work', reason: 'rejected', count: 1 }],
    });
  });
});

describe('what goes wrong', () => {
  it('starting fails with the reason when a queue is there with other arguments', async () => {
    await start({ queues: { other: { options: { durable: false } } } });
    await expect(start({ queues: { other: { options: { durable: true } } } })).rejects.toThrow(
      `PRECONDITION_FAILED - inequivalent arg 'durable' for queue 'other' ${broker.here}: ` +
        `received 'true' but current is 'false'`,
    );
  });

  itAdministered('320: it connects again, subscribes again and publishes again', async () => {
    const demo = await start(DEMO);
    const received = new Inbox<unknown>();
    await subscribe(demo, 'demo_sub', (_message, content, ackOrNack) => {
      received.add(content);
      ackOrNack();
    });
    await publish(demo, 'demo_pub', 'before');
    await eventually(() => expect(received.items).toEqual(['before']));
    const connects = new Inbox<unknown>();
    demo.application.on('connect', connects.add);
    await forceClosed(broker);
    await eventually(() => expect(connects.items).toHaveLength(1));
    await publish(demo, 'demo_pub', 'after');
    await eventually(() => expect(received.distinct).toEqual(['before', 'after']));
    expect(demo.errors.items.map(({ message }) => message)).toContainEqual(
      expect.stringContaining('320 (CONNECTION-FORCED)'),
    );
  });
});

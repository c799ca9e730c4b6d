/** Scenarios a to d: what flows where. */
import { publishFrames } from '../generator/frames.ts';
import { COUNTER, MessageRing, type RingOptions, uniformRing } from '../generator/source.ts';
import { runFlow, WINDOW_SMALL, windowFor } from './flow.ts';
import type { Scenario } from './scenario.ts';

/** Confirms outstanding, and prefetch, of b. */
const CONFIRM_WINDOW = 1_000;
const FANOUT_QUEUES = 10;
const TOPIC_BINDINGS = 1_000;
const TOPIC_EXCHANGE = 'bench.topic';
const SMALL_BODY = Buffer.alloc(16, 'x');

/** `16 B`, `1 KB`. */
export function sizeName(bodyBytes: number): string {
  return bodyBytes < 1024 ? `${bodyBytes} B` : `${bodyBytes / 1024} KB`;
}

function oneToOne(bodyBytes: number): Scenario {
  return {
    id: `a-${bodyBytes}`,
    title: `a. 1 publisher > 1 queue > 1 consumer, transient, auto-ack, ${sizeName(bodyBytes)}`,
    freshBroker: false,
    run: (context) =>
      runFlow(
        { unit: 'msg', queues: ['bench.a'], ring: uniformRing('', 'bench.a', bodyBytes), window: windowFor(bodyBytes) },
        context,
      ),
  };
}

function durable(bodyBytes: number): Scenario {
  return {
    id: `b-${bodyBytes}`,
    title: `b. persistent, durable queue, confirms and acks (window ${CONFIRM_WINDOW}), ${sizeName(bodyBytes)}`,
    freshBroker: false,
    run: (context) =>
      runFlow(
        {
          unit: 'msg',
          queues: ['bench.b'],
          ring: uniformRing('', 'bench.b', bodyBytes, true),
          window: windowFor(bodyBytes),
          confirmWindow: CONFIRM_WINDOW,
        },
        context,
      ),
  };
}

const fanout: Scenario = {
  id: 'c',
  title: `c. fanout to ${FANOUT_QUEUES} queues, ${FANOUT_QUEUES} consumers, 16 B`,
  freshBroker: false,
  run: (context) => {
    const exchange = 'bench.fanout';
    const queues = Array.from({ length: FANOUT_QUEUES }, (_, index) => `bench.c.${index}`);
    const plan = {
      unit: 'delivery',
      queues,
      ring: uniformRing(exchange, '', SMALL_BODY.length),
      window: WINDOW_SMALL,
    };
    return runFlow(
      {
        ...plan,
        prepare: async (link) => {
          await link.declareExchange(exchange, 'fanout');
          for (const queue of queues) await link.bindQueue(queue, exchange, '');
        },
        cleanUp: (link) => link.deleteExchange(exchange),
      },
      context,
    );
  },
};

/**
 * Binding `index` and the one family of three-word routing keys that only this binding matches; `varying` is any word.
 * The four shapes take turns, so that stars and hashes stand in front, in the middle and at the end.
 */
function topicPair(index: number, varying: string): { bindingKey: string; routingKey: string } {
  const name = `d${String(index).padStart(4, '0')}`;
  switch (index % 4) {
    case 0:
      return { bindingKey: `${name}.*.event`, routingKey: `${name}.${varying}.event` };
    case 1:
      return { bindingKey: `*.${name}.#`, routingKey: `${varying}.${name}.event` };
    case 2:
      return { bindingKey: `${name}.#`, routingKey: `${name}.${varying}.event` };
    default:
      return { bindingKey: `#.${name}`, routingKey: `${varying}.event.${name}` };
  }
}

function topic(id: string, title: string, ringOptions: RingOptions = {}): Scenario {
  return {
    id,
    title: `d. topic exchange with ${TOPIC_BINDINGS} wildcard bindings, 16 B, ${title}`,
    freshBroker: false,
    run: (context) => {
      const pairs = Array.from({ length: TOPIC_BINDINGS }, (_, index) => topicPair(index, COUNTER));
      const messages = pairs.map(({ routingKey }) => publishFrames(TOPIC_EXCHANGE, routingKey, SMALL_BODY));
      const queue = 'bench.d';
      return runFlow(
        {
          unit: 'msg',
          queues: [queue],
          ring: new MessageRing(messages, ringOptions),
          window: WINDOW_SMALL,
          prepare: async (link) => {
            await link.declareExchange(TOPIC_EXCHANGE, 'topic');
            for (const { bindingKey } of pairs) await link.bindQueue(queue, TOPIC_EXCHANGE, bindingKey);
          },
          cleanUp: (link) => link.deleteExchange(TOPIC_EXCHANGE),
        },
        context,
      );
    },
  };
}

/** a to d, each in its variants. */
export const FLOW_SCENARIOS: readonly Scenario[] = [
  oneToOne(16),
  oneToOne(1024),
  durable(16),
  durable(1024),
  fanout,
  topic('d-repeating', `${TOPIC_BINDINGS} repeating keys`),
  topic('d-new', 'ever-new keys', { freshKeys: { slotsMin: 2 * WINDOW_SMALL } }),
];

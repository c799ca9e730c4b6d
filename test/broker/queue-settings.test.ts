import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { FieldTable, FieldValue } from '../../broker/fields.ts';
import { BrokerError } from '../../broker/port.ts';
import {
  checkQueueArguments,
  consumerPriority,
  copyKeys,
  QUEUE_ARGUMENTS,
  queueSettings,
  queueTypeOf,
  retryDelayMs,
} from '../../broker/queue/queue-settings.ts';
import { runs } from '../support/runs.ts';

/** What is wrong with the arguments, without the words around it; undefined when they will do. */
function complaint(args: FieldTable): string | undefined {
  try {
    checkQueueArguments('q', 'v', args);
    return undefined;
  } catch (error) {
    if (!(error instanceof BrokerError)) throw error;
    expect(error.kind).toBe('precondition-failed');
    return error.message;
  }
}

const invalid = (name: string, reason: string): string => `invalid arg '${name}' for queue 'q' in vhost 'v': ${reason}`;

describe('the arguments of a queue', () => {
  it.each<[string, FieldValue, string | undefined]>([
    ['x-expires', 1, undefined],
    ['x-expires', 0, '{value_zero,0}'],
    ['x-expires', -1, '{value_negative,-1}'],
    ['x-expires', 1.5, '{unacceptable_type,double}'],
    ['x-expires', '1', '{unacceptable_type,longstr}'],
    ['x-expires', 3_153_600_000_000n, undefined],
    ['x-expires', 3_153_600_000_001n, '{value_too_large,3153600000001}'],
    ['x-message-ttl', 0, undefined],
    ['x-message-ttl', -1n, '{value_negative,-1}'],
    ['x-message-ttl', true, '{unacceptable_type,bool}'],
    ['x-max-length', 0n, undefined],
    ['x-max-length', null, '{unacceptable_type,void}'],
    ['x-delivery-limit', 2n ** 63n - 1n, '{value_too_large,9223372036854775807}'],
    ['x-overflow', 'reject-publish-dlx', undefined],
    ['x-overflow', 'explode', 'invalid_overflow'],
    ['x-max-priority', 255, undefined],
    ['x-max-priority', 256, '{max_value_exceeded,256}'],
    ['x-single-active-consumer', false, undefined],
    ['x-single-active-consumer', 'yes', '{unacceptable_type,longstr}'],
    ['x-queue-mode', 'lazy', undefined],
    ['x-queue-mode', 'eager', 'invalid_queue_mode'],
    ['x-delivery-limit', 0, undefined],
    ['x-delayed-retry-type', 'sometimes', 'invalid_delayed_retry_type'],
    ['x-delayed-retry-min', 0, '{value_zero,0}'],
    ['x-consumer-timeout', 0, undefined],
    ['x-of-somebody-else', 'whatever', undefined],
  ])('%s of %s', (name, value, reason) => {
    expect(complaint({ [name]: value })).toBe(reason === undefined ? undefined : invalid(name, reason));
  });

  it('a dead-letter routing key needs a dead-letter exchange beside it', () => {
    const key = 'x-dead-letter-routing-key';
    expect(complaint({ [key]: 'k' })).toBe(invalid(key, 'routing_key_but_no_dlx_defined'));
    expect(complaint({ [key]: 'k', 'x-dead-letter-exchange': '' })).toBeUndefined();
  });

  const value = fc.oneof(
    fc.constantFrom<FieldValue>(null, true, 'quorum', 'lazy', '', 1.5, -1, 0, 1, 255, 256, Number.NaN, 2n ** 62n),
    fc.constantFrom<FieldValue>(new Date(0), [], {}, new Uint8Array(2)),
  );
  const name = fc.constantFrom(...QUEUE_ARGUMENTS);
  const table = fc.dictionary(name, value, { maxKeys: 6 });

  it('are refused with precondition-failed or come to settings that make sense, whatever they are', () => {
    fc.assert(
      fc.property(table, table, (args, policy) => {
        if (complaint(args) !== undefined) return;
        const unprefixed = Object.fromEntries(Object.entries(policy).map(([key, value]) => [key.slice(2), value]));
        const settings = queueSettings(args, complaint(policy) === undefined ? unprefixed : {}, 7);
        const { messageTtlMs, expiresMs, maxLength, maxLengthBytes, maxPriority, deliveryLimit } = settings;
        for (const number of [messageTtlMs ?? 0, expiresMs ?? 1, maxLength, maxLengthBytes, deliveryLimit]) {
          expect(number).toBeGreaterThanOrEqual(0);
        }
        expect(Number.isInteger(maxPriority) && maxPriority >= 0 && maxPriority <= 255).toBe(true);
        expect(settings.consumerTimeoutMs).toBeGreaterThanOrEqual(0);
      }),
      runs(500),
    );
  });
});

describe('arguments and policies together', () => {
  const NAMES = ['message-ttl', 'expires', 'max-length', 'max-length-bytes', 'delivery-limit', 'consumer-timeout'];

  it('of two numbers the lower counts, of one that one, and without any there is no limit', () => {
    const some = fc.option(fc.integer({ min: 1, max: 1000 }), { nil: undefined });
    const one = (settings: ReturnType<typeof queueSettings>, name: string): number | undefined =>
      ({
        'message-ttl': settings.messageTtlMs,
        expires: settings.expiresMs,
        'max-length': settings.maxLength,
        'max-length-bytes': settings.maxLengthBytes,
        'delivery-limit': settings.deliveryLimit,
        'consumer-timeout': settings.consumerTimeoutMs,
      })[name];
    fc.assert(
      fc.property(fc.constantFrom(...NAMES), some, some, fc.boolean(), (name, own, policy, wide) => {
        const args = own === undefined ? {} : { [`x-${name}`]: wide ? BigInt(own) : own };
        const definition = policy === undefined ? {} : { [name]: policy };
        const none = one(queueSettings({}, {}, 77), name);
        const wanted = own === undefined && policy === undefined ? none : Math.min(own ?? 1e9, policy ?? 1e9);
        expect(one(queueSettings(args, definition, 77), name)).toBe(wanted);
      }),
      runs(200),
    );
    expect(queueSettings({}, {}, 77)).toEqual({
      messageTtlMs: undefined,
      expiresMs: undefined,
      maxLength: Number.POSITIVE_INFINITY,
      maxLengthBytes: Number.POSITIVE_INFINITY,
      overflow: 'drop-head',
      deadLetterExchange: undefined,
      deadLetterRoutingKey: undefined,
      deliveryLimit: Number.POSITIVE_INFINITY,
      maxPriority: 0,
      singleActiveConsumer: false,
      delayedRetry: undefined,
      consumerTimeoutMs: 77,
      countsDeliveries: false,
      stampsArrivals: false,
    });
  });

  it('of two words the argument counts', () => {
    const policy = { overflow: 'reject-publish', 'dead-letter-exchange': 'p', 'dead-letter-routing-key': 'pk' };
    expect(queueSettings({}, policy, 0)).toMatchObject({
      overflow: 'reject-publish',
      deadLetterExchange: 'p',
      deadLetterRoutingKey: 'pk',
    });
    const args = { 'x-overflow': 'drop-head', 'x-dead-letter-exchange': 'a', 'x-dead-letter-routing-key': 'ak' };
    expect(queueSettings(args, policy, 0)).toMatchObject({
      overflow: 'drop-head',
      deadLetterExchange: 'a',
      deadLetterRoutingKey: 'ak',
    });
  });

  it('the default exchange may be the dead-letter exchange', () => {
    expect(queueSettings({ 'x-dead-letter-exchange': '' }, {}, 0).deadLetterExchange).toBe('');
  });
});

describe('retryDelayMs', () => {
  const retry = { type: 'all', minMs: 10, maxMs: 100, multiplier: undefined } as const;

  it('linear and by a factor, never above the maximum, however many attempts', () => {
    expect([1, 2, 10, 11, 1e9].map((attempts) => retryDelayMs(retry, attempts))).toEqual([10, 20, 100, 100, 100]);
    const steep = { ...retry, multiplier: 2 };
    expect([1, 2, 3, 4, 5, 5000].map((attempts) => retryDelayMs(steep, attempts))).toEqual([10, 20, 40, 80, 100, 100]);
    expect([1, 2, 3].map((attempts) => retryDelayMs({ ...retry, multiplier: 1 }, attempts))).toEqual([10, 10, 10]);
  });
});

describe('smaller things', () => {
  it('the type of a queue', () => {
    expect([{}, { 'x-queue-type': 'classic' }, { 'x-queue-type': 'quorum' }].map(queueTypeOf)).toEqual([
      'classic',
      'classic',
      'quorum',
    ]);
  });

  it('the priority of a consumer is any integer', () => {
    const priorityOf = (value: FieldValue) => consumerPriority({ 'x-priority': value }, 'q', 'v');
    expect([priorityOf(-3), priorityOf(5n), consumerPriority({}, 'q', 'v')]).toEqual([-3, 5, 0]);
    for (const value of ['1', 1.5, null, true]) {
      expect(() => priorityOf(value)).toThrow(expect.objectContaining({ kind: 'precondition-failed' }));
    }
  });

  it('further routing keys are the strings of an array, or nothing', () => {
    expect([copyKeys({}, 'CC'), copyKeys({ CC: [] }, 'CC'), copyKeys({ CC: ['a', 1, ''] }, 'CC')]).toEqual([
      [],
      [],
      ['a', ''],
    ]);
    for (const value of ['a', 1, { a: 'b' }, null]) {
      expect(() => copyKeys({ BCC: value }, 'BCC')).toThrow(expect.objectContaining({ kind: 'precondition-failed' }));
    }
  });
});

import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { QueueModel, type QueueModelOptions, type Reaction } from '../support/queue-model.ts';
import { runs } from '../support/runs.ts';

/** One thing that somebody does to the queue. */
type Step = (model: QueueModel) => void | Promise<void>;

const channel = fc.nat(2);
const which = fc.nat(20);
const often = fc.boolean();

/** A step with a name, so that a counterexample can be read. */
function step<T extends unknown[]>(
  name: string,
  args: fc.Arbitrary<T>,
  run: (model: QueueModel, ...args: T) => unknown,
) {
  return args.map((values): Step => {
    const named = async (model: QueueModel): Promise<void> => void (await run(model, ...values));
    return Object.assign(named, { [fc.toStringMethod]: () => `${name}(${values.map(String)})` });
  });
}

const priority = fc.option(fc.nat(4), { nil: undefined });
const expiration = fc.option(fc.constantFrom(0, 1, 5, 20), { nil: undefined, freq: 3 });

const steps = fc.array(
  fc.oneof(
    {
      weight: 10,
      arbitrary: step('publish', fc.tuple(priority, expiration), (model, ...args) => model.publish(...args)),
    },
    {
      weight: 3,
      arbitrary: step('consume', fc.tuple(channel, often, fc.integer({ min: -1, max: 1 })), (model, ...args) =>
        model.consume(...args),
      ),
    },
    { weight: 4, arbitrary: step('advance', fc.tuple(fc.constantFrom(0, 0, 1, 7)), (model, ms) => model.advance(ms)) },
    { weight: 1, arbitrary: step('cancel', fc.tuple(which), (model, index) => model.cancel(index)) },
    { weight: 5, arbitrary: step('ack', fc.tuple(channel, which, often), (model, ...args) => model.ack(...args)) },
    {
      weight: 5,
      arbitrary: step('reject', fc.tuple(channel, which, often, often), (model, ...args) => model.reject(...args)),
    },
    { weight: 1, arbitrary: step('recover', fc.tuple(channel), (model, index) => model.recover(index)) },
    { weight: 1, arbitrary: step('close', fc.tuple(channel), (model, index) => model.close(index)) },
    { weight: 4, arbitrary: step('get', fc.tuple(channel, often), (model, ...args) => model.get(...args)) },
    { weight: 1, arbitrary: step('purge', fc.tuple(), (model) => model.purge()) },
    {
      weight: 3,
      arbitrary: step('prefetch', fc.tuple(channel, fc.nat(3), often), (model, ...args) => model.prefetch(...args)),
    },
    { weight: 1, arbitrary: step('pause', fc.tuple(channel), (model, index) => model.pause(index)) },
    { weight: 2, arbitrary: step('resume', fc.tuple(channel), (model, index) => model.resume(index)) },
  ),
  { maxLength: 60, size: 'max' },
);

/** Something that a consumer does from inside a delivery, with a name. */
function reaction<T extends unknown[]>(
  name: string,
  args: fc.Arbitrary<T>,
  run: (model: QueueModel, delivery: Parameters<Reaction>[1], ...args: T) => unknown,
) {
  return args.map((values): Reaction => {
    const named: Reaction = (model, delivery) => void run(model, delivery, ...values);
    return Object.assign(named, { [fc.toStringMethod]: () => `${name}(${values.map(String)})` });
  });
}

const reactions = fc.array(
  fc.oneof(
    { weight: 4, arbitrary: reaction('nothing', fc.tuple(), () => undefined) },
    {
      weight: 6,
      arbitrary: reaction('ack', fc.tuple(often), (model, { channel, which }, all) => model.ack(channel, which, all)),
    },
    {
      weight: 4,
      arbitrary: reaction('reject', fc.tuple(often, often), (model, { channel, which }, all, requeue) =>
        model.reject(channel, which, all, requeue),
      ),
    },
    {
      weight: 4,
      arbitrary: reaction('publish', fc.tuple(priority), (model, _delivery, priority) =>
        model.publish(priority, undefined),
      ),
    },
    { weight: 1, arbitrary: reaction('close', fc.tuple(), (model, { channel }) => model.close(channel)) },
    { weight: 1, arbitrary: reaction('cancel', fc.tuple(which), (model, _delivery, index) => model.cancel(index)) },
    { weight: 1, arbitrary: reaction('recover', fc.tuple(), (model, { channel }) => model.recover(channel)) },
    { weight: 1, arbitrary: reaction('pause', fc.tuple(), (model, { channel }) => model.pause(channel)) },
    { weight: 1, arbitrary: reaction('resume', fc.tuple(channel), (model, _delivery, index) => model.resume(index)) },
    {
      weight: 2,
      arbitrary: reaction('prefetch', fc.tuple(fc.nat(3)), (model, { channel }, count) =>
        model.prefetch(channel, count, true),
      ),
    },
  ),
  { maxLength: 60, size: 'max' },
);

/** Does the steps and compares after each. */
async function agree(
  options: QueueModelOptions,
  steps: readonly Step[],
  reactions: readonly Reaction[],
): Promise<void> {
  const model = await QueueModel.start(options, reactions);
  for (const one of steps) {
    await one(model);
    expect(await model.check()).toEqual([]);
  }
  expect(await model.finish()).toEqual([]);
}

const PLAIN: QueueModelOptions = {
  maxPriority: 0,
  messageTtlMs: undefined,
  maxLength: undefined,
  overflow: 'drop-head',
  deliveryLimit: undefined,
};

const overflow = fc.constantFrom('drop-head', 'reject-publish', 'reject-publish-dlx');

describe('a queue loses, doubles and reorders nothing, exceeds no prefetch and leaves no credit unused', () => {
  it.each<[string, fc.Arbitrary<QueueModelOptions>, number]>([
    ['plain', fc.constant(PLAIN), 200],
    ['with priorities', fc.constant({ ...PLAIN, maxPriority: 2 }), 100],
    ['with a time to live', fc.constant({ ...PLAIN, messageTtlMs: 5 }), 100],
    ['with a maximum length', fc.record({ ...constants(PLAIN), maxLength: fc.nat(3), overflow }), 150],
    ['with a delivery limit', fc.constant({ ...PLAIN, deliveryLimit: 1 }), 100],
    [
      'with everything at once',
      fc.record({
        maxPriority: fc.constantFrom(0, 2),
        messageTtlMs: fc.constantFrom(undefined, 0, 5),
        maxLength: fc.constantFrom(undefined, 1, 3),
        overflow,
        deliveryLimit: fc.constantFrom(undefined, 0, 2),
      }),
      150,
    ],
  ])('%s', async (_name, options, numRuns) => {
    await fc.assert(fc.asyncProperty(options, steps, fc.constant([]), agree), runs(numRuns));
  });

  it('with consumers that act from inside a delivery', async () => {
    const options = fc
      .record({ ...constants(PLAIN), maxPriority: fc.constantFrom(0, 2) })
      .map((some) => ({ ...PLAIN, ...some }));
    await fc.assert(fc.asyncProperty(options, steps, reactions, agree), runs(200));
  });
});

function constants(options: QueueModelOptions) {
  return {
    maxPriority: fc.constant(options.maxPriority),
    messageTtlMs: fc.constant(options.messageTtlMs),
    deliveryLimit: fc.constant(options.deliveryLimit),
  };
}

/** docs/ARCHITECTURE.md tells the path of a message; here it is held to the stack of one on its way. */
import { readFile } from 'node:fs/promises';
import { connect } from 'amqplib';
import { afterEach, expect, it } from 'vitest';
import { Outbox } from '../gateways/outbox.ts';
import { startEmbedded } from './support/embedded-warren.ts';

const original = Outbox.prototype.write;
const { stackTraceLimit } = Error;

afterEach(() => {
  Outbox.prototype.write = original;
  Error.stackTraceLimit = stackTraceLimit;
});

/** The functions in the ```path block, in order. */
async function toldPath(): Promise<string[]> {
  const text = await readFile(new URL('../docs/ARCHITECTURE.md', import.meta.url), 'utf8');
  const block = /```path\n([\s\S]*?)```/.exec(text)?.[1] ?? '';
  return block
    .trim()
    .split('\n')
    .map((line) => line.split(/\s/)[0] ?? '');
}

/** The functions on the stack at the first write of a message's content, outermost first. */
async function livePath(): Promise<string[]> {
  const warren = await startEmbedded();
  const connection = await connect(`amqp://guest:guest@${warren.host}:${warren.port}`);
  try {
    const channel = await connection.createChannel();
    const { queue } = await channel.assertQueue('', { exclusive: true });
    const received = new Promise<void>((resolve) => void channel.consume(queue, () => resolve()));
    await channel.assertQueue('', { exclusive: true }); // the consumer is there once this is answered
    let stack = '';
    Error.stackTraceLimit = 100;
    Outbox.prototype.write = function write(this: Outbox, ...args: Parameters<typeof original>) {
      const here = new Error('where').stack ?? '';
      if (stack === '' && here.includes('onDeliver')) stack = here;
      return original.apply(this, args);
    };
    channel.sendToQueue(queue, Buffer.from('follow me'));
    await received;
    return stack
      .split('\n')
      .map((line) => /^\s+at (\S+) /.exec(line)?.[1] ?? '')
      .reverse();
  } finally {
    await connection.close();
    await warren.close();
  }
}

it('the path in docs/ARCHITECTURE.md is the one a message takes', async () => {
  const told = await toldPath();
  const live = await livePath();
  expect(told.length).toBeGreaterThan(5);
  // Functions and private methods (`#`) are steps within a room; the told path is from room to room.
  const calls = live.slice(live.indexOf(told[0] ?? '')).filter((name) => /^[A-Z]\w*\.\w+$/.test(name));
  expect(calls).toEqual(told);
});

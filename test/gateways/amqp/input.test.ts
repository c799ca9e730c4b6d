import { PassThrough } from 'node:stream';
import { setImmediate as turn } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { type FrameHandler, FrameInput } from '../../../gateways/amqp/input.ts';
import { Chunk } from '../../../gateways/chunk.ts';
import { Halt } from '../../../gateways/halt.ts';
import { eventually } from '../../support/eventually.ts';
import { frame } from '../../support/raw-frames.ts';

/** Frames whose channel is their number, from `first` on. */
function frames(first: number, count: number): Buffer {
  return Buffer.concat(Array.from({ length: count }, (_, index) => frame(8, first + index, Buffer.alloc(0))));
}

const numbers = (first: number, count: number): number[] => Array.from({ length: count }, (_, index) => first + index);

function take(input: FrameInput, octets: Buffer): void {
  input.onData(new Chunk(octets), 0, octets.length);
}

/** An input whose frames take so long each, and the numbers of those handled. */
function scene(frameMs: number) {
  const handled: number[] = [];
  const handler: FrameHandler = {
    onFrame({ octets }, at) {
      const endMs = performance.now() + frameMs;
      while (performance.now() < endMs);
      handled.push(octets.readUInt16BE(at + 1));
      return at + 8;
    },
    onBodyBegin: () => undefined,
    onBodyEnd: () => {},
  };
  const socket = new PassThrough();
  return { socket, input: new FrameInput(socket, handler), handled };
}

describe('the input of one peer', () => {
  it('leaves the rest for later turns when frames take long, and keeps the order', async () => {
    const { socket, input, handled } = scene(0.5);
    take(input, frames(0, 100));
    expect(handled.length).toBeLessThan(100);
    const first = handled.length;
    take(input, frames(100, 100));
    expect(handled.length).toBe(first);
    expect(socket.isPaused()).toBe(true);
    await turn();
    expect(handled.length).toBeGreaterThan(first);
    // By now it is known that these frames take long: no turn takes many of them.
    const second = handled.length;
    await turn();
    expect(handled.length - second).toBeLessThan(20);
    await eventually(() => expect(handled).toEqual(numbers(0, 200)));
    expect(socket.isPaused()).toBe(false);
  });

  it('is not resumed by its turn when there is another reason to halt', async () => {
    const { input, handled } = scene(0.5);
    take(input, frames(0, 100));
    input.halt(Halt.publish);
    const { length } = handled;
    await turn();
    await turn();
    expect(handled.length).toBe(length);
    input.resume(Halt.publish);
    await eventually(() => expect(handled).toEqual(numbers(0, 100)));
  });

  it('goes nowhere once it is discarded between two turns', async () => {
    const { input, handled } = scene(0.5);
    take(input, frames(0, 100));
    const { length } = handled;
    input.discard();
    await turn();
    await turn();
    expect(handled.length).toBe(length);
  });
});

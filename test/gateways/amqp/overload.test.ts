/** Peers that want too much, take too little, or vanish. A bystander notices nothing. */
import { describe, expect, it } from 'vitest';
import { eventually } from '../../support/eventually.ts';
import { closesConnection } from '../../support/raw-channel.ts';
import { methodFrame } from '../../support/raw-frames.ts';
import { publish, useScene } from './scene.ts';

const scene = useScene();
const { broker } = scene;

describe('too much, too slow, too quiet', () => {
  it('thousands of channels up to channel_max; one more is 530', async () => {
    scene.guilty.write(
      Buffer.concat(Array.from({ length: 2046 }, (_, index) => methodFrame(index + 2, 'channel.open'))),
    );
    expect((await scene.guilty.channel(2047).expect('channel.open-ok')).channel).toBe(2047);
    const text = 'NOT_ALLOWED - number of channels opened (2047) has reached the negotiated channel_max (2047)';
    expect(await scene.guilty.channel(3000).refused('channel.open')).toEqual(closesConnection(530, text, 'none'));
  });

  it('a socket that is half closed in the middle of a frame leaves nothing behind', async () => {
    const before = await scene.connectionCount();
    const socket = await scene.openSocket();
    await eventually(async () => expect(await scene.connectionCount()).toBe(before + 1));
    socket.end(publish.subarray(0, 9));
    await eventually(async () => expect(await scene.connectionCount()).toBe(before));
  });

  it('a socket that is reset leaves nothing behind', async () => {
    const before = await scene.connectionCount();
    const socket = await scene.openSocket();
    await eventually(async () => expect(await scene.connectionCount()).toBe(before + 1));
    socket.resetAndDestroy();
    await eventually(async () => expect(await scene.connectionCount()).toBe(before));
  });

  it('a consumer that never reads gets no more than its share; the rest stays in the queue', async () => {
    const queue = await scene.channel.queue(broker.fresh('unread'), {}, { exclusive: false, autoDelete: true });
    await scene.channel.consume(queue, { noAck: true });
    scene.guilty.setReading(false);
    const message = Buffer.alloc(50_000);
    for (let count = 0; count < 400; count += 1) await scene.bystander.put('', queue, message);
    const ready = (await broker.embedded.snapshot('/')).queues.find((view) => view.name === queue)?.messagesReady ?? 0;
    expect(ready).toBeGreaterThan(100);
    scene.guilty.setReading(true);
    expect((await scene.channel.deliveries(400)).length).toBe(400);
  });

  it('a peer that asks and never reads the answers is not asked on, until he reads', async () => {
    const queue = await scene.channel.queue(broker.fresh('asked'), {}, { exclusive: true });
    await scene.channel.put('', queue, Buffer.alloc(100_000));
    let answered = 0;
    const stopObserving = broker.embedded.observe((event) => {
      if (event.type === 'delivered') answered += 1;
    });
    scene.guilty.setReading(false);
    const get = methodFrame(1, 'basic.get', { queue });
    const giveBack = methodFrame(1, 'basic.nack', { requeue: true, multiple: true });
    scene.guilty.write(Buffer.concat(Array.from({ length: 1000 }, () => Buffer.concat([get, giveBack]))));
    for (let round = 0; round < 200; round += 1) await scene.bystander.call('basic.qos');
    // 100 MB are asked for, of which the kernel takes some.
    expect(answered).toBeLessThan(500);
    scene.guilty.setReading(true);
    for (let count = 0; count < 1000; count += 1) await scene.channel.expect('basic.get-ok');
    expect(answered).toBe(1000);
    stopObserving();
  });
});

/** Servers that go at awkward moments: nothing is asked twice that may not be, and the process is none the worse. */

import type { Socket } from 'node:net';
import { afterEach, expect, it } from 'vitest';
import { createMessage } from '../../../broker/message.ts';
import { eventually } from '../../support/eventually.ts';
import { ptthApplication } from './application.ts';
import { Scene } from './scene.ts';

let scene: Scene;

afterEach(() => scene.close());

/** Opens a connection again as often as it has closed. */
async function keepServing(isOver: () => boolean, onRequest: (socket: Socket) => string): Promise<void> {
  const socket: Socket = await ptthApplication(scene, 'foo', (_request, response) => {
    const how = onRequest(socket);
    if (how === 'says so') response.setHeader('Connection', 'close');
    response.end('fine', () => {
      if (how === 'does not say so') socket.end();
    });
  });
  socket.once('close', () => {
    if (!isOver()) keepServing(isOver, onRequest).catch(() => {});
  });
}

it.each(['says so', 'does not say so'])(
  'an application that ends its connection after an answer, and %s',
  async (how) => {
    scene = await Scene.open();
    let isOver = false;
    for (let count = 0; count < 2; count += 1)
      await keepServing(
        () => isOver,
        () => how,
      );
    // More than there are connections: the next request is waiting when one of them ends.
    const answers = Array.from({ length: 20 }, async () => {
      const response = await scene.fetch('/http/foo/', { method: how === 'says so' ? 'POST' : 'GET' });
      return `${response.status} ${(await response.text()).trim()}`;
    });
    const expected = ['200 fine'];
    // It cannot be told from one that dies of a request; somebody may be unlucky three times.
    if (how === 'does not say so') expected.push('502 the application was lost before it answered');
    for (const answered of await Promise.all(answers)) expect(expected).toContain(answered);
    isOver = true;
  },
);

it('what was sent in part is not sent to another', async () => {
  scene = await Scene.open({ streamBytesMin: 1e9, streamAfterMs: 60_000 });
  let seen = 0;
  for (let count = 0; count < 3; count += 1) {
    const socket: Socket = await ptthApplication(scene, 'foo', (request) => {
      seen += 1;
      // More than what fits between the two is still to come.
      request.pause();
      socket.destroy();
    });
  }
  const response = await scene.fetch('/http/foo/', { method: 'POST', body: Buffer.alloc(8 * 1024 * 1024) });
  expect([response.status, seen]).toEqual([502, 1]);
});

it('a request that a program has published is tried three times too, and answered once', async () => {
  scene = await Scene.open({ replyTimeoutMs: 300 });
  let served = 0;
  for (let count = 0; count < 5; count += 1) {
    const socket: Socket = await ptthApplication(scene, 'foo', () => {
      served += 1;
      socket.destroy();
    });
  }
  const channel = await scene.channel();
  const replies: string[] = [];
  const ask = (correlationId: string): void =>
    channel.publish(
      createMessage({
        exchange: 'amq.rhttp',
        routingKey: 'foo',
        body: 'GET / HTTP/1.0\r\n\r\n',
        properties: { replyTo: 'amq.rabbitmq.reply-to', correlationId },
      }),
    );
  await channel.consume(
    { queue: 'amq.rabbitmq.reply-to', noAck: true },
    {
      onDeliver: ({ body, properties }) =>
        replies.push(`${properties.correlationId} ${Buffer.from(body).toString().slice(9, 12)}`),
    },
  );
  ask('first');
  await eventually(() => expect(replies).toEqual(['first 502']));
  expect(served).toBe(3);
  // The second one gets no answer; by then the time of all tries of the first is over.
  await ptthApplication(scene, 'foo', () => {});
  for (let count = 0; count < 3; count += 1) ask('later');
  await eventually(() => expect(replies).toContain('later 504'));
  expect(replies.filter((reply) => reply.startsWith('first'))).toEqual(['first 502']);
});

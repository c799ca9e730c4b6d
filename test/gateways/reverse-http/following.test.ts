/** HTTP as a messaging fabric: following queues and exchanges, and handing out URLs. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createMessage, type MessageProperties } from '../../../broker/message.ts';
import type { Channel } from '../../../broker/port.ts';
import { eventually } from '../../support/eventually.ts';
import { basic, GUEST, linksOf, Scene } from './scene.ts';

let scene: Scene;
let channel: Channel;

beforeEach(async () => {
  scene = await Scene.open({ pollSeconds: 2, ackTimeoutMs: 2000, streamWindow: 3 });
  channel = await scene.channel();
  await channel.declareQueue({ queue: 'q' });
  await channel.declareExchange({ exchange: 'x', type: 'topic' });
});

afterEach(() => scene.close());

const post = (path: string, body = '', headers: Record<string, string> = {}): Promise<Response> =>
  scene.fetch(path, { method: 'POST', body, headers: { ...GUEST, ...headers } });

const get = (path: string, headers: Record<string, string> = {}): Promise<Response> =>
  scene.fetch(path, { headers: { ...GUEST, ...headers } });

function put(queue: string, body: string | Uint8Array, properties: MessageProperties = {}): void {
  channel.publish(createMessage({ routingKey: queue, body, properties }));
}

describe('following', () => {
  /** Reads events until there are `count`, or the stream ends. */
  async function events(path: string, count: number, lastId?: string) {
    const controller = new AbortController();
    const response = await scene.fetch(path, {
      headers: { ...GUEST, Accept: 'text/event-stream', ...(lastId !== undefined && { 'Last-Event-ID': lastId }) },
      signal: controller.signal,
    });
    const found: { id: string; data: string; type: string }[] = [];
    let text = '';
    let ended = true;
    for await (const chunk of response.body ?? []) {
      text += Buffer.from(chunk).toString();
      for (let end = text.indexOf('\n\n'); end >= 0; end = text.indexOf('\n\n')) {
        const lines = text.slice(0, end).split('\n');
        text = text.slice(end + 2);
        const field = (name: string): string =>
          lines
            .filter((line) => line.startsWith(`${name}: `))
            .map((line) => line.slice(name.length + 2))
            .join('\n');
        if (field('id') !== '') found.push({ id: field('id'), data: field('data'), type: field('event') });
      }
      if (found.length >= count) {
        ended = false;
        break;
      }
    }
    controller.abort();
    return { found, ended, response };
  }

  const data = (read: { found: { data: string }[] }): string[] => read.found.map((event) => event.data);

  it('streams a queue, and acknowledges by the last id of whoever comes back', async () => {
    put('q', 'one');
    put('q', 'two\r\nlines');
    const first = await events('/queue/q', 2);
    expect(first.response.headers.get('content-type')).toBe('text/event-stream');
    expect(data(first)).toEqual(['one', 'two\nlines']);
    expect(await scene.depth('q')).toBe(2);
    put('q', 'three');
    const second = await events('/queue/q', 2, first.found[0]?.id);
    expect(data(second)).toEqual(['two\nlines', 'three']);
    expect(second.found[0]?.id).toBe(first.found[1]?.id);
    await events('/queue/q?wait=0', 0, second.found[1]?.id).catch(() => {});
    await eventually(async () => expect(await scene.depth('q')).toBe(0));
  });

  it('ends when its window is full, and goes on where the reader was', async () => {
    for (let count = 0; count < 5; count += 1) put('q', String(count));
    const first = await events('/queue/q', 99);
    expect([first.ended, data(first)]).toEqual([true, ['0', '1', '2']]);
    const second = await events('/queue/q', 2, first.found.at(-1)?.id);
    expect(data(second)).toEqual(['3', '4']);
    expect(await scene.depth('q')).toBe(2);
  });

  it('follows an exchange through a queue of its own, and loses nothing in between', async () => {
    const reading = events('/exchange/x/news.%23', 1);
    const follower = async () => (await scene.broker.snapshot('/')).bindings.find(({ source }) => source === 'x');
    const binding = await eventually(async () => (await follower()) ?? Promise.reject(new Error('not bound')));
    expect(binding).toMatchObject({ bindingKey: 'news.#' });
    expect((await post('/exchange/x/news.a', 'first')).status).toBe(202);
    await post('/exchange/x/other', 'not for him');
    const first = await reading;
    expect(data(first)).toEqual(['first']);
    await post('/exchange/x/news.b', 'while he was away');
    const second = await events('/exchange/x/news.%23', 1, first.found[0]?.id);
    expect(data(second)).toEqual(['while he was away']);
  });

  it('gives everything back when the reader does not come back in time', async () => {
    await scene.close();
    scene = await Scene.open({ ackTimeoutMs: 30 });
    channel = await scene.channel();
    await channel.declareQueue({ queue: 'q' });
    put('q', 'one');
    const { found } = await events('/queue/q', 1);
    await eventually(async () => expect((await channel.declareQueue({ queue: 'q' })).messageCount).toBe(1));
    expect(data(await events('/queue/q', 1, found[0]?.id))).toEqual(['one']);
  });

  it('takes acknowledgements from programs', async () => {
    put('q', 'one');
    put('q', 'two');
    const { found, response } = await events('/queue/q', 2);
    const { ack = '' } = linksOf(response);
    expect((await scene.fetch(ack, { method: 'POST', body: found[0]?.id ?? '' })).status).toBe(204);
    expect(await scene.depth('q')).toBe(1);
    expect((await scene.fetch(ack, { method: 'POST', body: 'other.1' })).status).toBe(400);
  });

  it('ends a stream that would have to remember too much', async () => {
    await scene.close();
    scene = await Scene.open({ streamWindowBytes: 1000 });
    channel = await scene.channel();
    await channel.declareQueue({ queue: 'q' });
    for (const letter of ['a', 'b', 'c', 'd']) put('q', letter.repeat(600));
    const first = await events('/queue/q', 10);
    expect([first.ended, data(first)]).toEqual([true, ['a'.repeat(600), 'b'.repeat(600)]]);
    const next = await events('/queue/q', 10, first.found.at(-1)?.id);
    expect([next.ended, data(next)]).toEqual([true, ['c'.repeat(600), 'd'.repeat(600)]]);
  });

  it('holds nothing for a reader who has left before it began, or who waits behind another request', async () => {
    const follow =
      `GET /queue/q HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n` +
      `Authorization: ${GUEST.Authorization}\r\n\r\n`;
    for (let count = 0; count < 10; count += 1) (await scene.dial(follow)).resetAndDestroy();
    const socket = await scene.dial(follow.repeat(3));
    await eventually(async () => expect((await scene.broker.snapshot('/')).queues[0]?.consumers).toHaveLength(1));
    socket.destroy();
    put('q', 'x');
    const read = await events('/queue/q', 1);
    expect(data(read)).toEqual(['x']);
  });

  it('keeps the streams of users apart', async () => {
    await scene.broker.administration.putUser({ name: 'anna', password: 'x' });
    await scene.broker.administration.setPermission({ vhost: '/', user: 'anna', configure: '', write: '', read: '.*' });
    put('q', 'one');
    const { found } = await events('/queue/q', 1);
    const other = await scene.fetch('/queue/q', {
      headers: { ...basic('anna', 'x'), Accept: 'text/event-stream', 'Last-Event-ID': found[0]?.id ?? '' },
    });
    await other.body?.cancel();
    expect(await scene.depth('q')).toBe(1);
  });

  it('tells octets in base64, and everything as JSON', async () => {
    put('q', new Uint8Array([255, 0]), { type: 't', headers: { a: 1 } });
    const { found } = await events('/queue/q?ack=auto', 1);
    expect(found).toMatchObject([{ data: '/wA=', type: 'base64' }]);
    // What is settled as it is sent may still go to a reader who is just leaving.
    await eventually(async () => expect((await channel.declareQueue({ queue: 'q' })).consumerCount).toBe(0));
    put('q', 'text', { type: 't', headers: { a: 1 } });
    const json = await events('/queue/q?format=json&ack=auto', 1);
    expect(JSON.parse(json.found[0]?.data ?? '')).toEqual({
      exchange: '',
      routingKey: 'q',
      redelivered: false,
      properties: { type: 't' },
      headers: { a: 1 },
      body: 'text',
    });
  });

  it('ends with the queue, and refuses the default exchange', async () => {
    const reading = events('/queue/q', 1);
    await eventually(async () => expect((await channel.declareQueue({ queue: 'q' })).consumerCount).toBe(1));
    await channel.deleteQueue('q');
    expect((await reading).ended).toBe(true);
    expect((await get('/exchange/amq.default/q', { Accept: 'text/event-stream' })).status).toBe(400);
  });
});

describe('handed-out URLs', () => {
  const hand = (target: string, lease?: string): Promise<Response> =>
    scene.fetch('/cap', {
      method: 'POST',
      headers: GUEST,
      body: new URLSearchParams({ target, ...(lease !== undefined && { lease }) }),
    });

  it('let anybody do there what their maker may, until they are deleted', async () => {
    const made = await hand('/exchange/amq.default/q');
    expect(made.status).toBe(201);
    const url = made.headers.get('location') ?? '';
    expect((await scene.fetch(url, { method: 'POST', body: 'hello' })).status).toBe(202);
    const reader = (await hand('/queue/q?ack=auto')).headers.get('location') ?? '';
    expect(await (await scene.fetch(reader)).text()).toBe('hello');
    expect((await scene.fetch(url, { method: 'DELETE' })).status).toBe(204);
    expect((await scene.fetch(url, { method: 'POST' })).status).toBe(404);
  });

  it('end whoever is following through them with themselves', async () => {
    const url = (await hand('/exchange/x/%23')).headers.get('location') ?? '';
    const response = await scene.fetch(url, { headers: { Accept: 'text/event-stream' } });
    const over = response.text().catch(() => 'cut off');
    expect((await scene.fetch(url, { method: 'DELETE' })).status).toBe(204);
    expect(await over).toBe('cut off');
  });

  it('end with their time, and with the rights of their maker', async () => {
    const { administration } = scene.broker;
    await administration.putUser({ name: 'anna', password: 'x' });
    await administration.setPermission({ vhost: '/', user: 'anna', configure: '', write: '.*', read: '' });
    const body = new URLSearchParams({ target: '/exchange/amq.default/q' });
    const made = await scene.fetch('/cap', { method: 'POST', headers: basic('anna', 'x'), body });
    const url = made.headers.get('location') ?? '';
    expect((await scene.fetch(url, { method: 'POST' })).status).toBe(202);
    await administration.setPermission({ vhost: '/', user: 'anna', configure: '', write: '', read: '' });
    expect((await scene.fetch(url, { method: 'POST' })).status).toBe(403);
    await administration.deleteUser('anna');
    expect((await scene.fetch(url, { method: 'POST' })).status).toBe(403);
    const short = (await hand('/queue/q', '0')).headers.get('location') ?? '';
    await eventually(async () => expect((await scene.fetch(short)).status).toBe(404));
  });

  it.each(['/reversehttp', 'queue/q', 'http://elsewhere/queue/q', ''])('are not made for %s', async (target) => {
    expect((await hand(target)).status).toBe(400);
  });
});

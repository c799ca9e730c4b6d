/** HTTP as a messaging fabric: publishing, waiting for a message, following. */
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

async function bindAll(): Promise<void> {
  await channel.bind({ source: 'x', destination: 'q', destinationKind: 'queue', bindingKey: '#' });
}

describe('publishing', () => {
  it('takes a message for an exchange and a key, with its properties', async () => {
    await bindAll();
    const response = await post('/exchange/x/a/b%20c', 'body', {
      'Content-Type': 'text/plain; charset=utf-8',
      'Content-Encoding': 'identity',
      'AMQP-Delivery-Mode': '2',
      'AMQP-Priority': '7',
      'AMQP-Timestamp': '1700000000',
      'AMQP-Correlation-Id': 'c',
      'AMQP-Reply-To': 'r',
      'AMQP-Expiration': '60000',
      'AMQP-Message-Id': 'm',
      'AMQP-Type*': "UTF-8''%C3%A4",
      'AMQP-User-Id': 'guest',
      'AMQP-App-Id': 'a',
      'AMQP-Cluster-Id': 'k',
      'AMQP-Headers': '{"n":1,"s":"\\u00e4","t":{"l":[true,null]}}',
    });
    expect(response.status).toBe(202);
    const got = await channel.get('q');
    expect(got?.message).toMatchObject({ exchange: 'x', routingKey: 'a/b c' });
    expect(Buffer.from(got?.message.body ?? []).toString()).toBe('body');
    expect(got?.message.properties).toEqual({
      contentType: 'text/plain; charset=utf-8',
      contentEncoding: 'identity',
      deliveryMode: 2,
      priority: 7,
      timestamp: 1_700_000_000,
      correlationId: 'c',
      replyTo: 'r',
      expiration: '60000',
      messageId: 'm',
      type: 'ä',
      userId: 'guest',
      appId: 'a',
      clusterId: 'k',
      headers: { n: 1, s: 'ä', t: { l: [true, null] } },
    });
  });

  it('reaches a queue through the default exchange', async () => {
    expect((await post('/exchange/amq.default/q', 'x')).status).toBe(202);
    expect(await scene.depth('q')).toBe(1);
  });

  it.each([
    ['?wait', 200],
    ['?wait&mandatory', 200],
    ['?mandatory', 202],
    ['?wait=false', 202],
  ])('answers %s with %s', async (query, status) => {
    expect((await post(`/exchange/amq.default/q${query}`, 'x')).status).toBe(status);
    expect(await scene.depth('q')).toBe(1);
  });

  it.each([
    ['an unknown exchange', '/exchange/nothing/k', {}, 404],
    ['what no queue wants, if that matters', '/exchange/x/k?mandatory', {}, 422],
    ['a priority that cannot be', '/exchange/x/k', { 'AMQP-Priority': '256' }, 400],
    ['headers that are no object', '/exchange/x/k', { 'AMQP-Headers': '[1]' }, 400],
    ['a text that is too long', '/exchange/x/k', { 'AMQP-Type': 'x'.repeat(256) }, 400],
    ['another user in user-id', '/exchange/x/k', { 'AMQP-User-Id': 'somebody' }, 409],
    ['a bad escape', '/exchange/x/%ff', {}, 400],
    ['an unknown virtual host', '/exchange/x/k?vhost=none', {}, 403],
    ['a wrong password', '/exchange/x/k', basic('guest', 'x'), 401],
  ])('refuses %s', async (_name, path, headers, status) => {
    expect((await post(path, '', headers as unknown as Record<string, string>)).status).toBe(status);
  });

  it('takes the right to write', async () => {
    const { administration } = scene.broker;
    await administration.putUser({ name: 'anna', password: 'x' });
    await administration.setPermission({ vhost: '/', user: 'anna', configure: '', write: '^y$', read: '' });
    expect((await post('/exchange/x/k', '', basic('anna', 'x'))).status).toBe(403);
  });

  it('is held back under an alarm, and refused by a full queue', async () => {
    await channel.declareQueue({ queue: 'full', arguments: { 'x-max-length': 1, 'x-overflow': 'reject-publish' } });
    expect((await post('/exchange/amq.default/full?wait')).status).toBe(200);
    expect((await post('/exchange/amq.default/full?wait')).status).toBe(503);
    await scene.broker.administration.setAlarm('memory', true);
    const held = await post('/exchange/amq.default/q');
    expect([held.status, held.headers.get('retry-after')]).toEqual([503, '5']);
    // Nor does the first request of somebody get through, for whom a connection is opened only then.
    const { administration } = scene.broker;
    await administration.putUser({ name: 'ben', password: 'x' });
    await administration.setPermission({ vhost: '/', user: 'ben', configure: '', write: '.*', read: '' });
    expect((await post('/exchange/amq.default/q?wait', '', basic('ben', 'x'))).status).toBe(503);
    await scene.broker.administration.setAlarm('memory', false);
    expect((await post('/exchange/amq.default/q')).status).toBe(202);
  });
});

describe('waiting for a message', () => {
  it('gets it with its properties as fields, and nothing that a browser would run', async () => {
    put('q', 'hello', {
      contentType: 'text/html',
      type: 'line\r\nbreak',
      messageId: ' m ',
      appId: 'half\ud800',
      headers: { 'X-A\r\nB: c': 'ä', big: 2n ** 60n, bytes: new Uint8Array([1]) },
    });
    const response = await get('/queue/q');
    expect(await response.text()).toBe('hello');
    expect(Object.fromEntries(response.headers)).toMatchObject({
      'content-type': 'text/html',
      'content-security-policy': 'sandbox',
      'x-content-type-options': 'nosniff',
      'amqp-redelivered': 'false',
      'amqp-routing-key': 'q',
      'amqp-exchange': '',
      'amqp-type*': "UTF-8''line%0D%0Abreak",
      'amqp-message-id*': "UTF-8''%20m%20",
      'amqp-app-id*': "UTF-8''half%EF%BF%BD",
      'amqp-headers': '{"X-A\\r\\nB: c":"\\u00e4","big":"1152921504606846976","bytes":"AQ=="}',
    });
  });

  it.each([
    ['POST', '', 0, 204],
    ['POST', '?reject', 0, 204],
    ['DELETE', '', 1, 204],
    ['PUT', '', 1, 405],
  ])('settles by %s%s of the ack URL', async (method, query, left, status) => {
    put('q', 'x');
    const { ack = '' } = linksOf(await get('/queue/q'));
    expect((await scene.fetch(ack + query, { method })).status).toBe(status);
    await eventually(async () => expect(await scene.depth('q')).toBe(left));
    if (status === 204) expect((await scene.fetch(ack, { method: 'POST' })).status).toBe(404);
  });

  it('settles by itself with ack=auto', async () => {
    put('q', 'x');
    const response = await get('/queue/q?ack=auto');
    expect([await response.text(), linksOf(response)]).toEqual(['x', {}]);
    await eventually(async () => expect(await scene.depth('q')).toBe(0));
  });

  it('waits, and says 204 when nothing comes', async () => {
    const waiting = get('/queue/q');
    await eventually(async () => expect((await channel.declareQueue({ queue: 'q' })).consumerCount).toBe(1));
    put('q', 'late');
    expect(await (await waiting).text()).toBe('late');
    expect((await get('/queue/q?wait=0')).status).toBe(204);
    await eventually(async () => expect((await channel.declareQueue({ queue: 'q' })).consumerCount).toBe(0));
  });

  it('gives back what was not acknowledged in time, as redelivered', async () => {
    await scene.close();
    scene = await Scene.open({ ackTimeoutMs: 30 });
    channel = await scene.channel();
    await channel.declareQueue({ queue: 'q' });
    put('q', 'x');
    const { ack = '' } = linksOf(await get('/queue/q'));
    const again = await get('/queue/q');
    expect(again.headers.get('amqp-redelivered')).toBe('true');
    expect((await scene.fetch(ack, { method: 'POST' })).status).toBe(404);
  });

  it('gives back what was on its way to a client that has gone', async () => {
    const socket = await scene.dial(
      `GET /queue/q HTTP/1.1\r\nHost: localhost\r\nAuthorization: ${GUEST.Authorization}\r\n\r\n`,
    );
    await eventually(async () => expect((await channel.declareQueue({ queue: 'q' })).consumerCount).toBe(1));
    socket.destroy();
    await eventually(async () => expect((await channel.declareQueue({ queue: 'q' })).consumerCount).toBe(0));
    put('q', 'kept');
    expect(await (await get('/queue/q')).text()).toBe('kept');
  });

  it.each([
    ['/queue/nothing', 404],
    ['/queue/q?ack=maybe', 400],
    ['/queue/q/key', 404],
    ['/exchange/x/k', 406],
  ])('refuses %s with %s', async (path, status) => {
    expect((await get(path)).status).toBe(status);
  });

  it('ends with the queue', async () => {
    const waiting = get('/queue/q');
    await eventually(async () => expect((await channel.declareQueue({ queue: 'q' })).consumerCount).toBe(1));
    await channel.deleteQueue('q');
    expect((await waiting).status).toBe(410);
  });
});

/** The COMET fallback: JSON both ways. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { eventually } from '../../support/eventually.ts';
import { GUEST, Scene } from './scene.ts';

let scene: Scene;

beforeEach(async () => {
  scene = await Scene.open({ closeTimeoutMs: 200 });
});

afterEach(() => scene.close());

describe('the COMET fallback', () => {
  type Json = Readonly<Record<string, unknown>>;

  async function post(body?: Json | string): Promise<{ status: number; json: Json }> {
    const text = typeof body === 'object' ? JSON.stringify(body) : body;
    const response = await scene.fetch('/reversehttp/foo?wait=1', {
      method: 'POST',
      headers: GUEST,
      ...(text !== undefined && { body: text }),
    });
    const answered = await response.text();
    return { status: response.status, json: answered.startsWith('{') ? JSON.parse(answered) : {} };
  }

  it('does not keep a place for whoever has left before he was served', async () => {
    const head = `POST /reversehttp/foo HTTP/1.1\r\nHost: localhost\r\nAuthorization: ${GUEST.Authorization}\r\n\r\n`;
    await scene.claim({ name: 'foo' });
    for (let count = 0; count < 10; count += 1) (await scene.dial(head)).resetAndDestroy();
    // Whoever came after them has been heard.
    await scene.fetch('/reversehttp', { headers: GUEST });
    await eventually(async () => expect((await scene.overview()).slots).toBe(0));
  });

  it('gives requests as JSON, and takes answers with the next question', async () => {
    const polled = post();
    await eventually(async () => expect((await scene.overview()).slots).toBe(1));
    const asked = scene.fetch('/http/foo/a?b', { method: 'POST', body: 'hällo', headers: { 'X-A': 'b' } });
    const { json } = await polled;
    expect(json).toMatchObject({
      method: 'POST',
      'request-uri': '/http/foo/a?b',
      'http-version': '1.1',
      body: 'hällo',
    });
    expect(json.headers).toContainEqual(['X-A', 'b']);
    const reply = { 'message-id': json['message-id'], 'http-version': '1.1', status: 202, reason: 'Fine' };
    const next = post({ ...reply, headers: [['X-C', 'd']], body: 'ünd' });
    const answered = await asked;
    expect([answered.status, answered.headers.get('x-c'), await answered.text()]).toEqual([202, 'd', 'ünd']);
    const binary = scene.fetch('/http/foo/', { method: 'POST', body: Buffer.from([0xff, 0xfe]) });
    const { json: second } = await next;
    expect(second).toMatchObject({ body: '//4=', 'body-encoding': 'base64' });
    const third = post({ 'message-id': second['message-id'], status: 200, body: '/w==', 'body-encoding': 'base64' });
    expect(Buffer.from(await (await binary).arrayBuffer())).toEqual(Buffer.from([0xff]));
    expect(await third).toEqual({ status: 200, json: {} });
  });

  it.each([
    ['no JSON', 'x{'],
    ['no object', '[]'],
    ['no message-id', { status: 200 }],
    ['no status', { 'message-id': 'x' }],
    ['an impossible status', { 'message-id': 'x', status: 100 }],
    ['a header injection', { 'message-id': 'x', status: 200, headers: [['A', 'b\r\nC: d']] }],
    ['a reason injection', { 'message-id': 'x', status: 200, reason: 'a\r\nC: d' }],
    ['no pairs', { 'message-id': 'x', status: 200, headers: ['A'] }],
  ])('refuses %s with 400', async (_name, body) => {
    expect((await post(body as Json)).status).toBe(400);
  });

  it('answers 404 for a message-id that nobody waits for', async () => {
    expect((await post({ 'message-id': 'x', status: 200 })).status).toBe(404);
  });
});

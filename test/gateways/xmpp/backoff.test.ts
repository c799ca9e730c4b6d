/** A component link that is lost again and again: pauses that grow, and begin anew when it has held. */
import { once } from 'node:events';
import { createServer, type Socket } from 'node:net';
import { expect, it } from 'vitest';
import { SILENT_LOG } from '../../../gateways/log.ts';
import { Backoff } from '../../../gateways/xmpp/backoff.ts';
import { ComponentLink, PAUSE_MS_MAX, PAUSE_MS_MIN, STABLE_MS } from '../../../gateways/xmpp/component-link.ts';
import { StanzaRouter } from '../../../gateways/xmpp/stanza-router.ts';
import { eventually } from '../../support/eventually.ts';
import { ManualClock } from '../../support/manual-clock.ts';

const OPTIONS = { minMs: 500, maxMs: 60_000, stableMs: 60_000 };

it('doubles up to a limit, whether or not the connection was made for a moment', () => {
  const clock = new ManualClock();
  const backoff = new Backoff({ ...OPTIONS, clock, random: () => 0 });
  const pauses = Array.from({ length: 10 }, (_, index) => {
    if (index % 2 === 0) backoff.connected();
    clock.advance(OPTIONS.stableMs - 1);
    return backoff.nextMs();
  });
  expect(pauses).toEqual([500, 1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000, 60_000]);
});

it('begins anew after a connection that has held, not after one that was only waited for', () => {
  const clock = new ManualClock();
  const backoff = new Backoff({ ...OPTIONS, clock, random: () => 0 });
  for (let count = 0; count < 3; count += 1) backoff.nextMs();
  clock.advance(OPTIONS.stableMs);
  expect(backoff.nextMs()).toBe(4000);
  backoff.connected();
  clock.advance(OPTIONS.stableMs);
  expect([backoff.nextMs(), backoff.nextMs()]).toEqual([500, 1000]);
});

it('is shortened at random, by half at most', () => {
  const clock = new ManualClock();
  expect(new Backoff({ ...OPTIONS, clock, random: () => 1 }).nextMs()).toBe(250);
  const pauses = Array.from({ length: 200 }, () => new Backoff({ ...OPTIONS, clock }).nextMs());
  expect(Math.min(...pauses)).toBeGreaterThanOrEqual(250);
  expect(Math.max(...pauses)).toBeLessThanOrEqual(500);
  expect(new Set(pauses).size).toBeGreaterThan(10);
});

it('a link that a server opens and drops at once is made again more and more seldom', async () => {
  const clock = new ManualClock();
  const sockets: Socket[] = [];
  let drops = true;
  const server = createServer((socket) => {
    sockets.push(socket);
    socket.on('error', () => {});
    socket.once('data', () => {
      socket.write(
        "<stream:stream xmlns='jabber:component:accept' xmlns:stream='http://etherx.jabber.org/streams' id='s'><handshake/>",
      );
      if (drops) socket.end();
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  const pauses: number[] = [];
  let ups = 0;
  const link = new ComponentLink({
    domain: 'broker.example',
    vhost: '/',
    host: '127.0.0.1',
    port: typeof address === 'object' && address !== null ? address.port : 0,
    secret: 'shh',
    router: new StanzaRouter(),
    stanzaBytesMax: 10_000,
    handshakeTimeoutMs: 10_000,
    silenceMs: 60_000,
    clock,
    log: {
      ...SILENT_LOG,
      warn: (fields: object) =>
        void pauses.push(Number(Object.entries(fields).find(([name]) => name === 'againInMs')?.[1])),
    },
    onUp: () => {
      ups += 1;
    },
    onDown() {},
  });
  link.start();
  for (let count = 1; count <= 10; count += 1) {
    await eventually(() => expect(pauses).toHaveLength(count));
    const longest = Math.min(PAUSE_MS_MIN * 2 ** (count - 1), PAUSE_MS_MAX);
    expect(pauses[count - 1]).toBeGreaterThanOrEqual(longest / 2);
    expect(pauses[count - 1]).toBeLessThanOrEqual(longest);
    expect(ups).toBe(count);
    const pauseMs = pauses[count - 1] ?? 0;
    clock.advance(pauseMs - 1);
    expect(sockets).toHaveLength(count);
    drops = count < 10;
    clock.advance(1);
  }
  await eventually(() => expect(link.up).toBe(true));
  clock.advance(STABLE_MS);
  expect(link.up).toBe(true);
  sockets.at(-1)?.destroy();
  await eventually(() => expect(pauses).toHaveLength(11));
  expect(pauses.at(-1)).toBeLessThanOrEqual(PAUSE_MS_MIN);
  link.close();
  expect(clock.timerCount).toBe(0);
  for (const socket of sockets) socket.destroy();
  await new Promise((resolve) => server.close(resolve));
});

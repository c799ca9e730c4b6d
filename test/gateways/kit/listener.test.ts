import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { AddressRanges } from '../../../gateways/addresses.ts';
import type { Transport } from '../../../gateways/gateway.ts';
import { CLOSE_TIMEOUT_MS, type Listener, type ListenOptions, listen } from '../../../gateways/listener.ts';
import { eventually } from '../../support/eventually.ts';
import { hasIpv6 } from '../../support/ipv6.ts';
import { proxyV2 } from '../../support/proxy-header.ts';
import { recordedLog } from '../../support/recorded-log.ts';

const opened: { destroy(): unknown }[] = [];
const listeners: Listener[] = [];

afterEach(async () => {
  vi.useRealTimers();
  for (const socket of opened.splice(0)) socket.destroy();
  await Promise.all(listeners.splice(0).map((listener) => listener.close()));
});

/** A listener whose door answers everything it reads with the same octets. */
async function listenAndEcho(options: Partial<ListenOptions> = {}) {
  const accepted: Transport[] = [];
  const { log, lines } = recordedLog();
  const listener = await listen({
    host: '127.0.0.1',
    port: 0,
    connectionsMax: 100,
    handshakeTimeoutMs: 5000,
    log,
    onConnection(transport) {
      accepted.push(transport);
      transport.socket.on('error', () => {}).on('data', (octets: Buffer) => transport.socket.write(octets));
    },
    ...options,
  });
  listeners.push(listener);
  return { listener, accepted, lines };
}

function dial(listener: Listener, host = '127.0.0.1'): Socket {
  const socket = connect(listener.address.port, host);
  socket.on('error', () => {});
  opened.push(socket);
  return socket;
}

async function echoed(socket: Socket, octets: string, expected = octets): Promise<void> {
  socket.write(octets, 'latin1');
  let received = '';
  for await (const chunk of socket.iterator({ destroyOnReturn: false })) {
    received += String(chunk);
    if (received.length >= expected.length) break;
  }
  expect(received).toBe(expected);
}

describe('a listener', () => {
  it('binds a free port for port 0 and says who is at both ends', async () => {
    const { listener, accepted } = await listenAndEcho();
    expect(listener.address.port).toBeGreaterThan(0);
    const socket = dial(listener);
    await echoed(socket, 'hello');
    expect(accepted[0]?.peer).toEqual({
      remoteAddress: '127.0.0.1',
      remotePort: socket.localPort,
      localAddress: '127.0.0.1',
      localPort: listener.address.port,
      loopback: true,
      encrypted: false,
    });
    expect(listener.connectionCount).toBe(1);
    socket.destroy();
    await eventually(() => expect(listener.connectionCount).toBe(0));
  });

  it.runIf(hasIpv6)('listens on IPv6, and shows IPv4 clients there by their IPv4 addresses', async () => {
    const { listener, accepted } = await listenAndEcho({ host: '::' });
    await echoed(dial(listener, '::1'), 'six');
    await echoed(dial(listener, '127.0.0.1'), 'four');
    expect(accepted.map(({ peer }) => [peer.remoteAddress, peer.localAddress, peer.loopback])).toEqual([
      ['::1', '::1', true],
      ['127.0.0.1', '127.0.0.1', true],
    ]);
  });

  it('refuses connections over the cap at once, counts them, logs them, and takes others when places are free', async () => {
    const { listener, accepted, lines } = await listenAndEcho({ connectionsMax: 2 });
    const first = dial(listener);
    await echoed(first, 'one');
    await echoed(dial(listener), 'two');
    const third = dial(listener);
    const fourth = dial(listener);
    await Promise.all([once(third, 'close'), once(fourth, 'close')]);
    expect(listener.refusedCount).toBe(2);
    expect(accepted).toHaveLength(2);
    expect(lines).toEqual([
      {
        level: 'warn',
        fields: { port: listener.address.port, connectionsMax: 2, refused: 1 },
        message: 'connections refused: as many as allowed are open',
      },
    ]);
    first.destroy();
    await eventually(() => expect(listener.connectionCount).toBe(1));
    await echoed(dial(listener), 'five');
  });

  it('says why it cannot listen', async () => {
    const { listener } = await listenAndEcho();
    const { port } = listener.address;
    await expect(listenAndEcho({ port })).rejects.toThrow(`port ${port} on 127.0.0.1 is in use by another program`);
    await expect(listenAndEcho({ host: '192.0.2.1' })).rejects.toThrow('192.0.2.1 is no address of this machine');
    await expect(listenAndEcho({ host: 'nowhere.invalid' })).rejects.toMatchObject({
      name: 'ListenError',
      reason: 'no-such-address',
      message: 'nowhere.invalid is no address of this machine',
    });
  });

  it('stops accepting without touching what is open, and closes when the doors have ended it', async () => {
    const { listener } = await listenAndEcho();
    const open = dial(listener);
    await echoed(open, 'before');
    listener.stopAccepting();
    const [error] = await once(dial(listener), 'error').catch((thrown) => [thrown]);
    expect(error.code).toBe('ECONNREFUSED');
    await echoed(open, 'after');
    const closed = listener.close();
    open.end();
    await closed;
    await listener.close();
  });

  it('destroys what the doors have not ended when the time is up', async () => {
    const { listener } = await listenAndEcho();
    const open = dial(listener);
    await echoed(open, 'hello');
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    const closed = listener.close();
    vi.advanceTimersByTime(CLOSE_TIMEOUT_MS - 1);
    expect(listener.connectionCount).toBe(1);
    vi.advanceTimersByTime(1);
    vi.useRealTimers();
    await closed;
    await eventually(() => expect(open.destroyed).toBe(true));
  });
});

describe('a listener behind a proxy', () => {
  const proxyProtocolSources = new AddressRanges(['127.0.0.0/8']);
  const header1 = 'PROXY TCP4 192.0.2.7 198.51.100.1 40212 5672\r\n';
  const header2 = proxyV2(0x21, 0x11, Buffer.from([192, 0, 2, 7, 198, 51, 100, 1, 0x9d, 0x14, 0x16, 0x28])).toString(
    'latin1',
  );
  const proxied = {
    remoteAddress: '192.0.2.7',
    remotePort: 40212,
    localAddress: '198.51.100.1',
    localPort: 5672,
    loopback: false,
    encrypted: false,
  };

  it.each([
    ['version 1', header1],
    ['version 2', header2],
  ])('believes the PROXY header of a trusted source: %s', async (_name, header) => {
    const { listener, accepted } = await listenAndEcho({ proxyProtocolSources });
    await echoed(dial(listener), `${header}hello`, 'hello');
    expect(accepted[0]?.peer).toEqual(proxied);
  });

  it('takes a header that arrives octet by octet, and what follows it later', async () => {
    const { listener, accepted } = await listenAndEcho({ proxyProtocolSources });
    const socket = dial(listener).setNoDelay();
    for (const octet of header2) await new Promise<void>((resolve) => socket.write(octet, 'latin1', () => resolve()));
    await eventually(() => expect(accepted).toHaveLength(1));
    await echoed(socket, 'hello');
    expect(accepted[0]?.peer).toEqual(proxied);
  });

  it('goes by the socket where the proxy speaks for itself', async () => {
    const { listener, accepted } = await listenAndEcho({ proxyProtocolSources });
    const socket = dial(listener);
    await echoed(socket, `${proxyV2(0x20, 0, Buffer.alloc(0)).toString('latin1')}hello`, 'hello');
    expect(accepted[0]?.peer).toMatchObject({
      remoteAddress: '127.0.0.1',
      remotePort: socket.localPort,
      loopback: true,
    });
  });

  it('drops a trusted source that sends no header, and says so', async () => {
    const { listener, accepted, lines } = await listenAndEcho({ proxyProtocolSources });
    const socket = dial(listener);
    socket.write('AMQP\0\0\t\x01');
    await once(socket, 'close');
    expect(accepted).toEqual([]);
    expect(lines).toMatchObject([
      { level: 'warn', message: 'closed a connection from a trusted proxy: no PROXY header (octet 0)' },
    ]);
  });

  it('drops a trusted source that does not finish its header in time', async () => {
    const { listener, accepted, lines } = await listenAndEcho({ proxyProtocolSources, handshakeTimeoutMs: 30 });
    const socket = dial(listener);
    socket.write('PROXY TCP4 192');
    await once(socket, 'close');
    expect(accepted).toEqual([]);
    expect(lines).toMatchObject([
      { level: 'warn', message: 'closed a connection from a trusted proxy: no PROXY header within 30 ms' },
    ]);
  });

  it('is quiet about a health check that connects and goes', async () => {
    const { listener, accepted, lines } = await listenAndEcho({ proxyProtocolSources });
    const socket = dial(listener);
    await once(socket, 'connect');
    await eventually(() => expect(listener.connectionCount).toBe(1));
    socket.end();
    await eventually(() => expect(listener.connectionCount).toBe(0));
    expect(accepted).toEqual([]);
    expect(lines.filter(({ level }) => level !== 'debug')).toEqual([]);
  });

  it('leaves a PROXY header from anywhere else to the door', async () => {
    const { listener, accepted } = await listenAndEcho({ proxyProtocolSources: new AddressRanges(['192.0.2.0/24']) });
    await echoed(dial(listener), header1);
    expect(accepted[0]?.peer.remoteAddress).toBe('127.0.0.1');
  });

  it('drops connections without a header when it closes', async () => {
    const { listener } = await listenAndEcho({ proxyProtocolSources });
    const socket = dial(listener);
    await eventually(() => expect(listener.connectionCount).toBe(1));
    await listener.close();
    await eventually(() => expect(socket.destroyed).toBe(true));
  });
});

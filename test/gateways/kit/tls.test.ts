import { X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import { copyFile, rm, writeFile } from 'node:fs/promises';
import { connect as connectTcp } from 'node:net';
import { type ConnectionOptions, connect, type TLSSocket } from 'node:tls';
import { afterEach, beforeAll, describe, expect, it } from 'vitest';
import { AddressRanges } from '../../../gateways/addresses.ts';
import type { PeerAddress } from '../../../gateways/gateway.ts';
import { type Listener, type ListenOptions, listen } from '../../../gateways/listener.ts';
import { certificateName, loadTls, type TlsOptions } from '../../../gateways/tls.ts';
import { issue, type KeyPair, makeAuthority, writePems } from '../../support/certificates.ts';
import { eventually } from '../../support/eventually.ts';
import { recordedLog } from '../../support/recorded-log.ts';

let authority: KeyPair;
let stranger: KeyPair;
let server: KeyPair;
let alice: KeyPair;
let twoNames: KeyPair;

beforeAll(async () => {
  [authority, stranger] = await Promise.all([makeAuthority('Test CA'), makeAuthority('Another CA')]);
  server = await issue(authority, [{ name: 'commonName', value: 'localhost' }]);
  alice = await issue(authority, [
    { name: 'countryName', value: 'SE' },
    { name: 'organizationName', value: 'Example' },
    { name: 'commonName', value: 'alice' },
  ]);
  twoNames = await issue(authority, [
    { name: 'commonName', value: 'alice' },
    { name: 'commonName', value: 'bob' },
  ]);
});

const opened: { destroy(): unknown }[] = [];
const listeners: Listener[] = [];

afterEach(async () => {
  for (const socket of opened.splice(0)) socket.destroy();
  await Promise.all(listeners.splice(0).map((listener) => listener.close()));
});

async function tlsOptions(changes: Partial<TlsOptions> = {}): Promise<TlsOptions> {
  const files = await writePems({ certificate: server.cert, key: server.key, ca: authority.cert });
  return {
    certificateFile: files.certificate,
    keyFile: files.key,
    caFile: files.ca,
    verifyClient: 'none',
    certificateName: 'common-name',
    minVersion: 'TLSv1.2',
    ...changes,
  };
}

/** A TLS listener whose door says one line and answers everything it reads with the same octets. */
async function listenTls(tlsChanges: Partial<TlsOptions> = {}, changes: Partial<ListenOptions> = {}) {
  const peers: PeerAddress[] = [];
  const { log, lines } = recordedLog();
  const tls = await loadTls(await tlsOptions(tlsChanges));
  const listener = await listen({
    host: '127.0.0.1',
    port: 0,
    tls,
    connectionsMax: 100,
    handshakeTimeoutMs: 5000,
    log,
    onConnection({ socket, peer }) {
      peers.push(peer);
      socket.on('error', () => {}).on('data', (octets: Buffer) => socket.write(octets));
      socket.write('welcome');
    },
    ...changes,
  });
  listeners.push(listener);
  return { listener, tls, peers, lines };
}

function dial(listener: Listener, options: ConnectionOptions = {}): TLSSocket {
  const { port } = listener.address;
  const socket = connect({ host: '127.0.0.1', servername: 'localhost', port, ca: authority.cert, ...options });
  socket.on('error', () => {});
  opened.push(socket);
  return socket;
}

/** Resolves when the door has spoken: a client learns only after its handshake that a certificate was refused. */
async function welcomed(socket: TLSSocket): Promise<void> {
  const [octets] = await once(socket, 'data');
  expect(String(octets)).toBe('welcome');
}

function closed(socket: TLSSocket): Promise<void> {
  return new Promise((resolve) => socket.once('close', () => resolve()));
}

describe('TLS', () => {
  it('is what the listener speaks, with the certificate of the files', async () => {
    const { listener, peers } = await listenTls();
    const socket = dial(listener);
    await welcomed(socket);
    expect(socket.authorized).toBe(true);
    expect(peers).toEqual([
      {
        remoteAddress: '127.0.0.1',
        remotePort: socket.localPort,
        localAddress: '127.0.0.1',
        localPort: listener.address.port,
        loopback: true,
        encrypted: true,
      },
    ]);
  });

  it('refuses a version below the least one', async () => {
    const { listener } = await listenTls({ minVersion: 'TLSv1.3' });
    const [error] = await once(dial(listener, { maxVersion: 'TLSv1.2' }), 'error').catch((thrown) => [thrown]);
    expect(error.code).toBe('ERR_SSL_TLSV1_ALERT_PROTOCOL_VERSION');
    await welcomed(dial(listener, { minVersion: 'TLSv1.3' }));
  });

  it('drops who does not speak TLS, and says so', async () => {
    const { listener, peers, lines } = await listenTls();
    const socket = connectTcp(listener.address.port, '127.0.0.1');
    opened.push(socket.on('error', () => {}));
    socket.write('AMQP\0\0\t\x01');
    await once(socket, 'close');
    expect(peers).toEqual([]);
    expect(lines).toMatchObject([
      {
        level: 'info',
        fields: { peer: expect.stringMatching(`^127.0.0.1:\\d+ -> 127.0.0.1:${listener.address.port}$`) },
        message: 'TLS handshake failed: the peer does not speak TLS; this port takes nothing else',
      },
    ]);
  });

  it('drops who does not finish the handshake in time', async () => {
    const { listener, lines } = await listenTls({}, { handshakeTimeoutMs: 30 });
    const socket = connectTcp(listener.address.port, '127.0.0.1');
    opened.push(socket.on('error', () => {}).resume());
    await once(socket, 'close');
    expect(lines).toMatchObject([{ level: 'info', message: 'TLS handshake failed: it took too long' }]);
  });

  it('gives back its place under the cap when a connection ends', async () => {
    const { listener } = await listenTls({}, { connectionsMax: 1 });
    const first = dial(listener);
    await welcomed(first);
    await closed(dial(listener));
    expect(listener.refusedCount).toBe(1);
    first.destroy();
    await eventually(() => expect(listener.connectionCount).toBe(0));
    await welcomed(dial(listener));
  });

  it('works behind a proxy that says where the connection comes from', async () => {
    const proxyProtocolSources = new AddressRanges(['127.0.0.1']);
    const { listener, peers } = await listenTls({}, { proxyProtocolSources });
    const raw = connectTcp(listener.address.port, '127.0.0.1');
    opened.push(raw.on('error', () => {}));
    raw.write('PROXY TCP4 192.0.2.7 198.51.100.1 40212 5671\r\n');
    await welcomed(dial(listener, { socket: raw }));
    expect(peers).toMatchObject([{ remoteAddress: '192.0.2.7', remotePort: 40212, loopback: false, encrypted: true }]);
  });

  it('takes the header and the first octets of the handshake in one piece', async () => {
    const proxyProtocolSources = new AddressRanges(['127.0.0.1']);
    const { listener, peers } = await listenTls({}, { proxyProtocolSources });
    const raw = connectTcp(listener.address.port, '127.0.0.1');
    opened.push(raw.on('error', () => {}));
    raw.cork();
    raw.write('PROXY TCP4 192.0.2.7 198.51.100.1 40212 5671\r\n');
    const socket = dial(listener, { socket: raw });
    await once(raw, 'connect');
    setImmediate(() => raw.uncork());
    await welcomed(socket);
    expect(peers).toMatchObject([{ remoteAddress: '192.0.2.7' }]);
  });
});

describe("a client's certificate", () => {
  it('gives its name to the door', async () => {
    const { listener, peers } = await listenTls({ verifyClient: 'optional' });
    await welcomed(dial(listener, alice));
    expect(peers[0]?.certificateName).toBe('alice');
  });

  it('gives its whole subject where that is configured', async () => {
    const { listener, peers } = await listenTls({ verifyClient: 'required', certificateName: 'subject' });
    await welcomed(dial(listener, alice));
    expect(peers[0]?.certificateName).toBe('CN=alice,O=Example,C=SE');
  });

  it('may be missing, and then there is no name, unless it is required', async () => {
    const optional = await listenTls({ verifyClient: 'optional' });
    await welcomed(dial(optional.listener));
    expect(optional.peers[0]).not.toHaveProperty('certificateName');

    const required = await listenTls({ verifyClient: 'required' });
    const [error] = await once(dial(required.listener), 'error').catch((thrown) => [thrown]);
    expect(error.code).toBe('ERR_SSL_TLSV13_ALERT_CERTIFICATE_REQUIRED');
    expect(required.peers).toEqual([]);
    await eventually(() => expect(required.lines).toMatchObject([{ level: 'info' }]));
  });

  it('proves nothing when it comes from an unknown authority', async () => {
    const mallory = await issue(stranger, [{ name: 'commonName', value: 'alice' }]);
    const optional = await listenTls({ verifyClient: 'optional' });
    await welcomed(dial(optional.listener, mallory));
    expect(optional.peers[0]).not.toHaveProperty('certificateName');

    const required = await listenTls({ verifyClient: 'required' });
    await closed(dial(required.listener, mallory));
    expect(required.peers).toEqual([]);
  });

  it('gives no name when it has two', () => {
    expect(certificateName(new X509Certificate(twoNames.cert), 'common-name')).toBeUndefined();
    expect(certificateName(new X509Certificate(twoNames.cert), 'subject')).toBe('CN=bob,CN=alice');
  });

  it('is not asked for unless that is configured', async () => {
    const { listener, peers } = await listenTls({ verifyClient: 'none' });
    await welcomed(dial(listener, alice));
    expect(peers[0]).not.toHaveProperty('certificateName');
  });
});

describe('the certificate files', () => {
  it('are read again on demand: new handshakes get the new certificate, open connections stay', async () => {
    const { listener, tls } = await listenTls();
    const before = dial(listener);
    await welcomed(before);
    const renewed = await issue(authority, [{ name: 'commonName', value: 'renewed' }]);
    await writeFile(tls.options.certificateFile, renewed.cert);
    await writeFile(tls.options.keyFile, renewed.key);
    await tls.reload();
    const after = dial(listener);
    await welcomed(after);
    expect(before.getPeerX509Certificate()?.subject).toBe('CN=localhost');
    expect(after.getPeerX509Certificate()?.subject).toBe('CN=renewed');
    before.write('still here');
    expect(String((await once(before, 'data'))[0])).toBe('still here');
  });

  it('change nothing when they have become bad', async () => {
    const { listener, tls } = await listenTls();
    await copyFile((await writePems({ other: stranger.key })).other, tls.options.keyFile);
    await expect(tls.reload()).rejects.toThrow(
      `the TLS key in ${tls.options.keyFile} with the certificate in ${tls.options.certificateFile} cannot be used`,
    );
    await rm(tls.options.certificateFile);
    await expect(tls.reload()).rejects.toThrow(`cannot read the TLS certificate file ${tls.options.certificateFile}`);
    const socket = dial(listener);
    await welcomed(socket);
    expect(socket.getPeerX509Certificate()?.subject).toBe('CN=localhost');
  });

  it.each(['certificateFile', 'keyFile', 'caFile'] as const)('name the bad one: %s', async (which) => {
    const { bad } = await writePems({ bad: 'no PEM at all' });
    await expect(loadTls(await tlsOptions({ [which]: bad }))).rejects.toThrow(bad);
    await expect(loadTls(await tlsOptions({ [which]: '/nowhere/at-all.pem' }))).rejects.toThrow('/nowhere/at-all.pem');
  });
});

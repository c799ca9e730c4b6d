/** SCRAM with channel binding, by a client written here: on TLS from the start and after STARTTLS, in both versions. */
import { createHash, createHmac, pbkdf2Sync } from 'node:crypto';
import type { connect as connectTcp } from 'node:net';
import { connect as connectTls, type SecureVersion, type TLSSocket } from 'node:tls';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { createBroker } from '../../../broker/broker.ts';
import type { Broker } from '../../../broker/port.ts';
import type { Gateway } from '../../../gateways/gateway.ts';
import { SILENT_LOG } from '../../../gateways/log.ts';
import { openXmppDoor, startXmppGateway } from '../../../gateways/xmpp/gateway.ts';
import { localhostTls } from '../../support/certificates.ts';
import { RawClient } from './scene.ts';

let broker: Broker;
let gateways: Gateway[];
let authority: string;
const sockets: TLSSocket[] = [];
beforeAll(async () => {
  const made = await localhostTls();
  authority = made.authority;
  const { tls } = made;
  broker = await createBroker();
  const door = await openXmppDoor(broker, { tls });
  const listener = { host: '127.0.0.1', port: 0, connectionsMax: 100, handshakeTimeoutMs: 10_000, log: SILENT_LOG };
  gateways = [await startXmppGateway(door, listener), await startXmppGateway(door, { ...listener, tls })];
});
afterEach(() => {
  for (const socket of sockets.splice(0)) socket.destroy();
});
afterAll(async () => {
  await broker.close();
  await Promise.all(gateways.map((gateway) => gateway.close()));
});

type Way = 'STARTTLS' | 'TLS';

interface SecureClient {
  readonly raw: RawClient;
  readonly socket: TLSSocket;
  readonly features: string;
}

/** A client inside TLS that has been told what is offered. */
async function secure(way: Way, version: SecureVersion): Promise<SecureClient> {
  const port = gateways[way === 'TLS' ? 1 : 0]?.addresses[0]?.port ?? 0;
  const options = { ca: authority, servername: 'localhost', minVersion: version, maxVersion: version };
  let plain: ReturnType<typeof connectTcp> | undefined;
  if (way === 'STARTTLS') {
    const before = await RawClient.connect(port);
    before.header();
    expect(await before.until('</stream:features>')).not.toMatch(/PLUS|channel-binding/);
    before.say("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>");
    await before.until('<proceed');
    plain = before.socket;
    plain.removeAllListeners('data');
    plain.setEncoding();
  }
  const socket = connectTls({ ...options, ...(plain === undefined ? { port, host: '127.0.0.1' } : { socket: plain }) });
  sockets.push(socket);
  await new Promise((resolve, reject) => socket.once('secureConnect', resolve).once('error', reject));
  const raw = new RawClient(socket);
  raw.header();
  return { raw, socket, features: await raw.until('</stream:features>') };
}

/** The octets of a type, as the client has them. */
function boundOctets(socket: TLSSocket, type: string): Buffer {
  if (type === 'tls-exporter') return socket.exportKeyingMaterial(32, 'EXPORTER-Channel-Binding', Buffer.alloc(0));
  if (type === 'tls-unique') return socket.getFinished() ?? Buffer.alloc(0);
  // The certificates of this test are signed with ECDSA and SHA-256.
  return createHash('sha256')
    .update(socket.getPeerX509Certificate()?.raw ?? '')
    .digest();
}

interface Attempt {
  readonly mechanism?: string;
  /** The first part of the first message. */
  readonly flag: string;
  readonly octets?: Buffer;
}

/** Logs guest in by SCRAM, and answers what comes of it: `success`, or the condition. */
async function scram({ raw }: Pick<SecureClient, 'raw'>, { mechanism = 'SCRAM-SHA-256-PLUS', flag, octets }: Attempt) {
  const header = `${flag},,`;
  const bare = 'n=guest,r=nonce';
  const say = (name: string, text: string, attributes = ''): void =>
    raw.say(
      `<${name} xmlns='urn:ietf:params:xml:ns:xmpp-sasl'${attributes}>${Buffer.from(text).toString('base64')}</${name}>`,
    );
  const outcome = async (): Promise<string> => {
    const said = await raw.until(/<challenge[^>]*>[^<]*<|<success|<failure[^>]*><[\w-]+/);
    return said.slice(said.lastIndexOf('<', said.length - 2));
  };
  say('auth', header + bare, ` mechanism='${mechanism}'`);
  const challenge = await outcome();
  if (!challenge.startsWith('<challenge')) return challenge.slice(1);
  const text = Buffer.from(/>([^<]*)</.exec(challenge)?.[1] ?? '', 'base64').toString();
  const [, nonce = '', salt = '', rounds = ''] = /^r=([^,]*),s=([^,]*),i=(\d+)$/.exec(text) ?? [];
  const digest = mechanism.includes('256') ? 'sha256' : 'sha1';
  const binding = Buffer.concat([Buffer.from(header), octets ?? Buffer.alloc(0)]).toString('base64');
  const last = `c=${binding},r=${nonce}`;
  const length = digest === 'sha256' ? 32 : 20;
  const salted = pbkdf2Sync('guest', Buffer.from(salt, 'base64'), Number(rounds), length, digest);
  const clientKey = createHmac(digest, salted).update('Client Key').digest();
  const signature = createHmac(digest, createHash(digest).update(clientKey).digest())
    .update(`${bare},${text},${last}`)
    .digest();
  const proof = clientKey.map((octet, index) => octet ^ (signature[index] ?? 0));
  say('response', `${last},p=${Buffer.from(proof).toString('base64')}`);
  return (await outcome()).slice(1);
}

const PLUS = ['SCRAM-SHA-256-PLUS', 'SCRAM-SHA-1-PLUS'];

describe.each(['TLS', 'STARTTLS'] as const)('inside %s', (way) => {
  it.each([
    ['TLSv1.3', ['tls-exporter', 'tls-server-end-point']],
    ['TLSv1.2', ['tls-server-end-point', 'tls-unique']],
  ] as const)('of version %s it is offered, each type is announced and works', async (version, types) => {
    const { features } = await secure(way, version);
    const mechanisms = [...features.matchAll(/<mechanism>([^<]*)</g)].map(([, name]) => name);
    expect(mechanisms).toEqual([...PLUS, 'SCRAM-SHA-256', 'SCRAM-SHA-1', 'PLAIN']);
    expect([...features.matchAll(/<channel-binding type="([^"]*)"/g)].map(([, type]) => type)).toEqual(types);
    for (const type of types) {
      for (const mechanism of PLUS) {
        const client = await secure(way, version);
        const octets = boundOctets(client.socket, type);
        expect(await scram(client, { mechanism, flag: `p=${type}`, octets })).toBe('success');
      }
    }
  });

  it('it is bound to this connection and no other', async () => {
    const [one, other] = [await secure(way, 'TLSv1.3'), await secure(way, 'TLSv1.3')];
    const octets = boundOctets(other.socket, 'tls-exporter');
    expect(await scram(one, { flag: 'p=tls-exporter', octets })).toBe('not-authorized');
    expect(await scram(one, { flag: 'p=tls-exporter', octets: Buffer.alloc(0) })).toBe('not-authorized');
    expect(await scram(other, { flag: 'p=tls-exporter', octets })).toBe('success');
  });
});

describe('whoever', () => {
  it.each([
    ['says that it was not offered', { mechanism: 'SCRAM-SHA-256', flag: 'y' }, 'not-authorized'],
    ['does not do it', { mechanism: 'SCRAM-SHA-256', flag: 'n' }, 'success'],
    [
      'does it where its name does not say so',
      { mechanism: 'SCRAM-SHA-256', flag: 'p=tls-exporter' },
      'not-authorized',
    ],
    ['does not do it where its name says so', { flag: 'n' }, 'not-authorized'],
    ['has none where its name says so', { flag: 'y' }, 'not-authorized'],
    ['names a type that is not there', { flag: 'p=tls-magic' }, 'not-authorized'],
    ['names none', { flag: 'p=' }, 'not-authorized'],
  ] as const)('%s: %o is %s', async (_what, attempt, outcome) => {
    expect(await scram(await secure('TLS', 'TLSv1.3'), attempt)).toBe(outcome);
  });

  it('knows tls-unique only, as slixmpp does, may use it in TLS 1.3', async () => {
    const client = await secure('TLS', 'TLSv1.3');
    const octets = boundOctets(client.socket, 'tls-unique');
    expect(await scram(client, { flag: 'p=tls-unique', octets })).toBe('success');
  });

  it('has no TLS may say that he could', async () => {
    const raw = await RawClient.connect(gateways[0]?.addresses[0]?.port ?? 0);
    raw.header();
    await raw.until('</stream:features>');
    expect(await scram({ raw }, { mechanism: 'SCRAM-SHA-256', flag: 'y' })).toBe('success');
    raw.socket.destroy();
  });
});

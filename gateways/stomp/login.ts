/**
 * CONNECT: the version, who the peer is, the virtual host, heart-beats, extensions. Headers of CONNECT are not escaped in
 * any version, so a passcode may have a backslash in it.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { type Broker, BrokerError, type Credentials, type Principal } from '../../broker/port.ts';
import { type PeerAddress, peerName } from '../gateway.ts';
import type { Headers } from './declarations.ts';
import { ReplyError, replyTo } from './errors.ts';
import type { Version } from './escapes.ts';
import { agreeIntervals, type Intervals, NO_INTERVALS } from './heart-beat.ts';
import type { ResolvedOptions } from './options.ts';

const ACCESS_REFUSED = 403;
const NOT_ALLOWED = 530;

/** Versions spoken, the best first. */
const VERSIONS: readonly (readonly [string, Version])[] = [
  ['1.2', 12],
  ['1.1', 11],
  ['1.0', 10],
];

/** All of them, as an ERROR names them. */
export const VERSIONS_TEXT = '1.0,1.1,1.2';

/** What a client may ask for in `accept-extensions`. */
export type Extension = 'warren.admin' | 'warren.soft-error';
const EXTENSIONS: readonly Extension[] = ['warren.admin', 'warren.soft-error'];

/** What CONNECT has come to. */
export interface Login {
  readonly version: Version;
  readonly principal: Principal;
  /** Undefined: the broker's default one. */
  readonly vhost: string | undefined;
  readonly intervals: Intervals;
  readonly extensions: ReadonlySet<Extension>;
  /** COMPAT: the name under which a client of ActiveMQ has its durable subscriptions. */
  readonly clientId: string | undefined;
}

/** The version agreed upon. Throws ReplyError. */
export function agreeVersion(headers: Headers): Version {
  const accepted = (headers.get('accept-version') ?? '1.0').split(',').map((one) => one.trim());
  const best = VERSIONS.find(([name]) => accepted.includes(name));
  if (best === undefined) {
    throw new ReplyError('Version mismatch', `Supported versions are ${VERSIONS_TEXT}\n`);
  }
  return best[1];
}

/** Who asks, and for what. Rejects with ReplyError. */
export async function logIn(
  broker: Broker,
  peer: PeerAddress,
  headers: Headers,
  options: ResolvedOptions,
): Promise<Login> {
  const version = agreeVersion(headers);
  const heartBeat = headers.get('heart-beat');
  const intervals = heartBeat === undefined ? NO_INTERVALS : agreeIntervals(heartBeat);
  if (intervals === undefined) {
    throw new ReplyError(
      'Bad CONNECT',
      "the header 'heart-beat' must be two numbers of milliseconds with a comma between",
    );
  }
  const credentials = credentialsOf(headers, peer, options);
  const wanted = (headers.get('accept-extensions') ?? '').split(',').map((one) => one.trim());
  return {
    version,
    principal: await authenticate(broker, credentials, peer, options),
    vhost: headers.get('host') || undefined,
    // 1.0 knows no heart-beats: a line feed between frames may be more than its clients expect.
    intervals: version === 10 ? NO_INTERVALS : intervals,
    extensions: new Set(EXTENSIONS.filter((extension) => wanted.includes(extension))),
    clientId: headers.get('client-id'),
  };
}

/** The refusal of a connection whose user has proved who he is: in RabbitMQ's words, and why. */
export function refusedVhost(error: unknown, vhost: string | undefined): unknown {
  const reply = error instanceof BrokerError ? replyTo(error) : undefined;
  if (reply === undefined || (reply.code !== NOT_ALLOWED && reply.code !== ACCESS_REFUSED)) return error;
  // Many clients put the name of the server there, as the specification has it.
  const hint =
    vhost === undefined ? '' : " (the header 'host' names a virtual host; without it, it is the default one)";
  const name = vhost === undefined ? '' : ` '${vhost}'`;
  return new ReplyError('Bad CONNECT', `Virtual host${name} access denied: ${reply.detail}${hint}\n`, reply.code);
}

/** A login in the frame goes before the certificate, and that before the default user, as in RabbitMQ. */
function credentialsOf(headers: Headers, peer: PeerAddress, { defaultLogin }: ResolvedOptions): Credentials {
  const { loopback, certificateName } = peer;
  const username = headers.get('login');
  const password = headers.get('passcode');
  if (username !== undefined) return { username, password: password ?? '', loopback };
  if (certificateName !== undefined) return { username: certificateName, provedBy: 'certificate', loopback };
  if (defaultLogin !== undefined) return { ...defaultLogin, loopback };
  throw new ReplyError('Bad CONNECT', "the headers 'login' and 'passcode' must be there\n");
}

async function authenticate(
  broker: Broker,
  credentials: Credentials,
  peer: PeerAddress,
  options: ResolvedOptions,
): Promise<Principal> {
  try {
    return await broker.authenticate(credentials);
  } catch (error) {
    if (!(error instanceof BrokerError) || error.kind !== 'access-refused') throw error;
    const { username } = credentials;
    options.log.warn({ peer: peerName(peer), username, reason: error.message }, 'login refused');
    if (!peer.loopback) await delay(options.loginRefusalDelayMs, undefined, { ref: false });
    throw new ReplyError('Bad CONNECT', `Access refused for user '${username}'\n`, 403);
  }
}

/** What can be decided about the AMQP door; every limit has its default here. */
import { type Log, SILENT_LOG } from '../log.ts';
import type { OutboxOptions } from '../outbox.ts';
import { FRAME_MAX_FLOOR_BYTES } from './constants.ts';

export interface AmqpOptions {
  /** Version of Warren, for server-properties. */
  readonly version?: string;
  /**
   * What to call itself to clients that switch on the name, in place of Warren: kombu, for one, takes only a `RabbitMQ`
   * of version 3.3 or later for a broker that has prefetch per consumer.
   */
  readonly announcedProduct?: { readonly product: string; readonly version: string };
  /** Channels per connection; default 2047. */
  readonly channelMax?: number;
  /** Largest frame, in octets with its head and end; at least 4096; default 131072. */
  readonly frameMaxBytes?: number;
  /** Proposed to the client, whose answer rules; 0 = none; default 60. */
  readonly heartbeatSeconds?: number;
  /** From the accepted connection to connection.open; default 10 s. */
  readonly handshakeTimeoutMs?: number;
  /** For the peer's close-ok, and then for the end of its socket; default 10 s. */
  readonly closeTimeoutMs?: number;
  /** Before a refused login is answered, unless the peer is on this machine; default 3 s. */
  readonly loginRefusalDelayMs?: number;
  /** Largest message body; default 128 MiB. */
  readonly bodyBytesMax?: number;
  readonly outbox?: OutboxOptions;
  readonly log?: Log;
}

export const CHANNEL_MAX = 2047;
export const FRAME_MAX_BYTES = 131_072;
export const HEARTBEAT_SECONDS = 60;
export const HANDSHAKE_TIMEOUT_MS = 10_000;
export const CLOSE_TIMEOUT_MS = 10_000;
export const LOGIN_REFUSAL_DELAY_MS = 3000;
export const BODY_BYTES_MAX = 128 * 1024 * 1024;

export type ResolvedOptions = Required<Omit<AmqpOptions, 'announcedProduct'>> & Pick<AmqpOptions, 'announcedProduct'>;

/** `options` with the defaults filled in. Throws RangeError for a frame size below the protocol's floor. */
export function resolveOptions(options: AmqpOptions): ResolvedOptions {
  const resolved: ResolvedOptions = {
    version: '0.0.0',
    channelMax: CHANNEL_MAX,
    frameMaxBytes: FRAME_MAX_BYTES,
    heartbeatSeconds: HEARTBEAT_SECONDS,
    handshakeTimeoutMs: HANDSHAKE_TIMEOUT_MS,
    closeTimeoutMs: CLOSE_TIMEOUT_MS,
    loginRefusalDelayMs: LOGIN_REFUSAL_DELAY_MS,
    bodyBytesMax: BODY_BYTES_MAX,
    outbox: {},
    log: SILENT_LOG,
    ...options,
  };
  if (resolved.frameMaxBytes < FRAME_MAX_FLOOR_BYTES) {
    throw new RangeError(`frameMaxBytes must be at least ${FRAME_MAX_FLOOR_BYTES}`);
  }
  return resolved;
}

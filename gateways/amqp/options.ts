/** What can be decided about the AMQP door. What is an option of the process too has its default there. */
import { type Log, SILENT_LOG } from '../log.ts';
import { OPTIONS } from '../options.ts';
import type { OutboxOptions } from '../outbox.ts';
import { FRAME_MAX_FLOOR_BYTES } from './constants.ts';

/** Defaults are those of the options in `../options.ts`, where there is one that means the same. */
export interface AmqpOptions {
  /** Version of Warren, for server-properties. */
  readonly version?: string;
  /**
   * What to call itself to clients that switch on the name, in place of Warren: kombu, for one, takes only a `RabbitMQ`
   * of version 3.3 or later for a broker that has prefetch per consumer.
   */
  readonly announcedProduct?: { readonly product: string; readonly version: string };
  /** Channels per connection. */
  readonly channelMax?: number;
  /** Largest frame, in octets with its head and end; at least 4096. */
  readonly frameMaxBytes?: number;
  /** Proposed to the client, whose answer rules; 0 = none. */
  readonly heartbeatSeconds?: number;
  /** From the accepted connection to connection.open. */
  readonly handshakeTimeoutMs?: number;
  /** For the peer's close-ok, and then for the end of its socket; default 10 s. */
  readonly closeTimeoutMs?: number;
  /** Before a refused login is answered, unless the peer is on this machine; default 3 s. */
  readonly loginRefusalDelayMs?: number;
  /** Largest message body. */
  readonly bodyBytesMax?: number;
  readonly outbox?: OutboxOptions;
  readonly log?: Log;
}

const CLOSE_TIMEOUT_MS = 10_000;
const LOGIN_REFUSAL_DELAY_MS = 3000;
/** Default of `bodyBytesMax`. */
export const BODY_BYTES_MAX = OPTIONS.messageBytesMax.default;

export type ResolvedOptions = Required<Omit<AmqpOptions, 'announcedProduct'>> & Pick<AmqpOptions, 'announcedProduct'>;

/** `options` with the defaults filled in. Throws RangeError for a frame size below the protocol's floor. */
export function resolveOptions(options: AmqpOptions): ResolvedOptions {
  const resolved: ResolvedOptions = {
    version: '0.0.0',
    channelMax: OPTIONS.channelsMax.default,
    frameMaxBytes: OPTIONS.frameBytesMax.default,
    heartbeatSeconds: OPTIONS.heartbeatSeconds.default,
    handshakeTimeoutMs: OPTIONS.handshakeTimeoutSeconds.default * 1000,
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

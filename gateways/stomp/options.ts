/** What can be decided about the STOMP door. What is an option of the process too has its default there. */
import { type Log, SILENT_LOG } from '../log.ts';
import { OPTIONS } from '../options.ts';
import type { OutboxOptions } from '../outbox.ts';

/** Defaults are those of the options in `../options.ts`, where there is one that means the same. */
export interface StompOptions {
  /** Version of Warren, for the `server` header. */
  readonly version?: string;
  /** Who a client without `login` is, with the password to log in with; absent: such clients are refused. */
  readonly defaultLogin?: { readonly username: string; readonly password: string };
  /** A client may leave CONNECT out and is then the default user, in STOMP 1.0. */
  readonly implicitConnect?: boolean;
  /** The exchange behind `/topic/`. */
  readonly topicExchange?: string;
  /** Whether a NACK that does not say so puts the message back into its queue. */
  readonly nackRequeue?: boolean;
  /** Largest frame, head and body; before the login no more than 64 KiB. */
  readonly frameBytesMax?: number;
  /** From the accepted connection to CONNECTED. */
  readonly handshakeTimeoutMs?: number;
  /** After an ERROR or DISCONNECT, for the peer to end its socket; default 10 s. */
  readonly closeTimeoutMs?: number;
  /** Before a refused login is answered, unless the peer is on this machine; default 3 s. */
  readonly loginRefusalDelayMs?: number;
  readonly outbox?: OutboxOptions;
  readonly log?: Log;
}

const CLOSE_TIMEOUT_MS = 10_000;
const LOGIN_REFUSAL_DELAY_MS = 3000;

export type ResolvedOptions = Required<Omit<StompOptions, 'defaultLogin'>> & Pick<StompOptions, 'defaultLogin'>;

/** `options` with the defaults filled in. */
export function resolveOptions(options: StompOptions): ResolvedOptions {
  return {
    version: '0.0.0',
    implicitConnect: OPTIONS.stompImplicitConnect.default === 'on',
    topicExchange: OPTIONS.stompTopicExchange.default,
    nackRequeue: OPTIONS.stompNackRequeue.default === 'on',
    frameBytesMax: OPTIONS.stompFrameBytesMax.default,
    handshakeTimeoutMs: OPTIONS.handshakeTimeoutSeconds.default * 1000,
    closeTimeoutMs: CLOSE_TIMEOUT_MS,
    loginRefusalDelayMs: LOGIN_REFUSAL_DELAY_MS,
    outbox: {},
    log: SILENT_LOG,
    ...options,
  };
}

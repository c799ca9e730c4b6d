/**
 * How failures are told to an AMQP peer: the reply code of every kind of broker error, whether a code closes the
 * channel or the connection [AMQP 1.1], and texts in RabbitMQ's wording, which clients compare.
 */

import { encodeText, SHORT_STRING_BYTES_MAX } from '../../broker/encoding/octets.ts';
import { ProtocolError } from '../../broker/encoding/protocol-error.ts';
import { BrokerError, type BrokerErrorKind } from '../../broker/port.ts';
import { REPLY_NAMES, type ReplyCode } from './constants.ts';

const REPLY_CODES = {
  'access-refused': 403,
  'not-found': 404,
  'resource-locked': 405,
  'precondition-failed': 406,
  'not-allowed': 530,
  'not-implemented': 540,
  'resource-error': 506,
  'connection-forced': 320,
  'internal-error': 541,
} as const satisfies Record<BrokerErrorKind, ReplyCode>;

/** Codes that close the channel only. */
const SOFT_CODES: ReadonlySet<number> = new Set([311, 313, 403, 404, 405, 406]);

/** What is said in a `channel.close` or `connection.close`. */
export interface Reply {
  readonly code: ReplyCode;
  /** Without the name of the code. */
  readonly explanation: string;
}

/** The failure of a peer's request at which the door itself says no. */
export class ReplyError extends Error implements Reply {
  readonly code: ReplyCode;

  constructor(code: ReplyCode, explanation: string) {
    super(explanation);
    this.name = 'ReplyError';
    this.code = code;
  }

  get explanation(): string {
    return this.message;
  }
}

/** True when `code` ends one channel, false when it ends the connection. */
export function isSoft(code: ReplyCode): boolean {
  return SOFT_CODES.has(code);
}

/** What to tell the peer about `error`; undefined for a defect of Warren, which the peer learns nothing about. */
export function replyTo(error: unknown): Reply | undefined {
  if (error instanceof BrokerError) return { code: REPLY_CODES[error.kind], explanation: error.message };
  if (error instanceof ProtocolError) return { code: error.code, explanation: error.message };
  return error instanceof ReplyError ? error : undefined;
}

/** `NOT_FOUND - no queue 'q' in vhost '/'`, cut to the 255 octets that the field holds. */
export function replyText({ code, explanation }: Reply): string {
  const text = explanation === '' ? REPLY_NAMES[code] : `${REPLY_NAMES[code]} - ${explanation}`;
  if (text.length * 3 <= SHORT_STRING_BYTES_MAX) return text;
  return new TextDecoder().decode(encodeText(text, SHORT_STRING_BYTES_MAX));
}

/** Octets as RabbitMQ's texts show them: `<<"abc">>` when all are printable, else `<<1,2,3>>`. */
export function octetsText(octets: Uint8Array): string {
  const printable = octets.every(
    (octet) => (octet >= 0x20 && octet < 0x7f) || octet === 9 || octet === 10 || octet === 13,
  );
  if (!printable || octets.length === 0) return `<<${octets.join(',')}>>`;
  return `<<${JSON.stringify(new TextDecoder().decode(octets))}>>`;
}

/** 501 for a frame whose payload makes no sense, or whose framing does not: `why` in RabbitMQ's words. */
export function frameError(type: number, payload: Uint8Array, why: string): ReplyError {
  return new ReplyError(501, `${frameText(type, payload)}: ${why}`);
}

/** 505 for a frame that has no place where it stands. */
export function unexpectedFrame(type: number, payload: Uint8Array): ReplyError {
  return new ReplyError(505, frameText(type, payload));
}

function frameText(type: number, payload: Uint8Array): string {
  const shown = payload.subarray(0, 16);
  return `type ${type}, ${payload.length <= 16 ? 'all' : 'first 16'} octets = ${octetsText(shown)}`;
}

/**
 * How failures are told to a STOMP peer: the `message` header of an ERROR frame and its body, in RabbitMQ's words, which
 * clients compare; and the numeric code that `warren.soft-error` puts into a RECEIPT.
 */
import { BrokerError, type BrokerErrorKind } from '../../broker/port.ts';
import { ProtocolError, type ProtocolFault } from './protocol-error.ts';

interface Naming {
  readonly message: string;
  readonly code: number;
}

const BROKER_ERRORS = {
  'access-refused': { message: 'access_refused', code: 403 },
  'not-found': { message: 'not_found', code: 404 },
  'resource-locked': { message: 'resource_locked', code: 405 },
  'precondition-failed': { message: 'precondition_failed', code: 406 },
  'not-allowed': { message: 'not_allowed', code: 530 },
  'not-implemented': { message: 'not_implemented', code: 540 },
  'resource-error': { message: 'resource_error', code: 506 },
  'connection-forced': { message: 'connection_forced', code: 320 },
  'internal-error': { message: 'internal_error', code: 541 },
} as const satisfies Record<BrokerErrorKind, Naming>;

const FAULTS = {
  'unknown-command': 'Bad command',
  'bad-header': 'Invalid header',
  'bad-escape': 'Invalid escape sequence',
  'bad-content-length': 'Invalid content-length',
  'missing-nul': 'Invalid frame',
  'too-many-headers': 'Too many headers',
  'header-too-large': 'Header too large',
  'frame-too-large': 'Frame too large',
} as const satisfies Record<ProtocolFault, string>;

/** Of faults of the peer's frames; AMQP's code for frames that make no sense. */
const FRAME_ERROR = 501;
/** Of requests that the door itself refuses. */
const BAD_REQUEST = 400;

/** What is said in an ERROR frame, or in a RECEIPT with an error. */
export interface Reply {
  /** The `message` header. */
  readonly message: string;
  /** The body. */
  readonly detail: string;
  readonly code: number;
}

/** The failure of a peer's request at which the door itself says no. */
export class ReplyError extends Error implements Reply {
  readonly detail: string;
  readonly code: number;

  constructor(message: string, detail: string, code = BAD_REQUEST) {
    super(message);
    this.name = 'ReplyError';
    this.detail = detail;
    this.code = code;
  }
}

/** What to tell the peer about `error`; undefined for a defect of Warren, which the peer learns nothing about. */
export function replyTo(error: unknown): Reply | undefined {
  if (error instanceof BrokerError) {
    const { message, code } = BROKER_ERRORS[error.kind];
    return { message, detail: `${message.toUpperCase()} - ${error.message}`, code };
  }
  if (error instanceof ProtocolError) return { message: FAULTS[error.code], detail: error.message, code: FRAME_ERROR };
  return error instanceof ReplyError ? error : undefined;
}

/** What the peer is told of a defect. */
export const DEFECT: Reply = { message: 'internal_error', detail: 'INTERNAL_ERROR', code: 541 };

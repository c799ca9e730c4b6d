/** What malformed octets lead to. */

/**
 * Thrown by every decoder of the canonical encoding and of the AMQP door, and only that. `code` is the AMQP reply code
 * that the fault has (501 FRAME_ERROR, 502 SYNTAX_ERROR, 503 COMMAND_INVALID); `offset` the position of the fault in the octets that the
 * decoder was given.
 */
export class ProtocolError extends Error {
  readonly code: 501 | 502 | 503;
  readonly offset: number;

  constructor(code: 501 | 502 | 503, message: string, offset: number) {
    super(message);
    this.name = 'ProtocolError';
    this.code = code;
    this.offset = offset;
  }
}

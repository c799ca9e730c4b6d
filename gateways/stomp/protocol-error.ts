/** What malformed octets lead to. */

/** What is wrong with a frame as such, whatever it asks for. */
export type ProtocolFault =
  | 'unknown-command'
  | 'bad-header'
  | 'bad-escape'
  | 'bad-content-length'
  | 'missing-nul'
  | 'too-many-headers'
  | 'header-too-large'
  | 'frame-too-large';

/**
 * Thrown by every decoder of this door, and only that. After it, not even the beginning of the next frame is known, so
 * it ends the connection. `offset` is the position of the fault in the octets that the decoder was given.
 */
export class ProtocolError extends Error {
  readonly code: ProtocolFault;
  readonly offset: number;

  constructor(code: ProtocolFault, message: string, offset: number) {
    super(message);
    this.name = 'ProtocolError';
    this.code = code;
    this.offset = offset;
  }
}

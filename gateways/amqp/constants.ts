/**
 * Numbers of AMQP 0-9-1 [AMQP 1.1, 4.2] with RabbitMQ's additions.
 *
 * ```
 * frame     type(1) channel(2) size(4) payload(size) end(1) = 0xCE
 * method    class(2) method(2) arguments
 * header    class(2) weight(2) = 0  body size(8)  property flags(2) property list
 * ```
 */

export const FRAME_METHOD = 1;
export const FRAME_HEADER = 2;
export const FRAME_BODY = 3;
export const FRAME_HEARTBEAT = 8;
export const FRAME_END = 0xce;

/** Octets before the payload of a frame. */
export const FRAME_HEAD_BYTES = 7;
/** Octets of a frame besides its payload. */
export const FRAME_OVERHEAD_BYTES = 8;
/** Class, weight and body size in a header frame; the property block follows. */
export const CONTENT_HEADER_BYTES = 12;
/** No peer has to accept less [AMQP 4.2.3]. */
export const FRAME_MAX_FLOOR_BYTES = 4096;

export const CLASS_BASIC = 60;

/** Method ids as they stand on the wire: class in the upper, method in the lower 16 bits. */
export const METHOD_BASIC_PUBLISH = 0x003c0028;
export const METHOD_BASIC_DELIVER = 0x003c003c;
export const METHOD_BASIC_ACK = 0x003c0050;
export const METHOD_BASIC_REJECT = 0x003c005a;
export const METHOD_BASIC_NACK = 0x003c0078;

/** Reply codes and the names that begin every reply text [AMQP 1.1]. */
export const REPLY_NAMES = {
  200: 'REPLY_SUCCESS',
  311: 'CONTENT_TOO_LARGE',
  312: 'NO_ROUTE',
  313: 'NO_CONSUMERS',
  320: 'CONNECTION_FORCED',
  402: 'INVALID_PATH',
  403: 'ACCESS_REFUSED',
  404: 'NOT_FOUND',
  405: 'RESOURCE_LOCKED',
  406: 'PRECONDITION_FAILED',
  501: 'FRAME_ERROR',
  502: 'SYNTAX_ERROR',
  503: 'COMMAND_INVALID',
  504: 'CHANNEL_ERROR',
  505: 'UNEXPECTED_FRAME',
  506: 'RESOURCE_ERROR',
  530: 'NOT_ALLOWED',
  540: 'NOT_IMPLEMENTED',
  541: 'INTERNAL_ERROR',
} as const;

export type ReplyCode = keyof typeof REPLY_NAMES;

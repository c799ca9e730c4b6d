/** Header and body frames: whether they may come now, and what a header says. [AMQP 4.2.6] */

import { scanProperties } from '../../broker/encoding/properties.ts';
import { CLASS_BASIC, CONTENT_HEADER_BYTES, FRAME_HEADER } from './constants.ts';
import { type ContentAssembly, EXPECTS_BODY, EXPECTS_HEADER, EXPECTS_METHOD } from './content.ts';
import { frameError, ReplyError } from './errors.ts';
import { BODY_BYTES_MAX } from './options.ts';

const TWO_TO_32 = 2 ** 32;

/**
 * Takes the payload of a header frame, `octets[start, end)`, of which `view` is a view. Throws for one that has no place
 * here, announces more than `bodyBytesMax` (before anything is kept), or has malformed properties.
 */
export function readHeader(
  content: ContentAssembly,
  octets: Buffer,
  view: DataView,
  start: number,
  end: number,
  bodyBytesMax: number,
): void {
  if (end - start < CONTENT_HEADER_BYTES) throw frameError(FRAME_HEADER, octets.subarray(start, end), 'unknown_frame');
  if (content.expects === EXPECTS_METHOD) throw expectedMethod();
  if (content.expects === EXPECTS_BODY) throw expectedBody();
  const classId = view.getUint16(start);
  if (view.getUint16(start + 2) !== 0) throw expectedHeader('non content header frame');
  if (classId !== CLASS_BASIC) throw expectedHeader(`one for class ${classId}`);
  const high = view.getUint32(start + 4);
  const bodyBytes = high * TWO_TO_32 + view.getUint32(start + 8);
  if (bodyBytes > bodyBytesMax) {
    // Before any of it is kept. Digits beyond 2^53 would be lost in a number.
    const size = high < 2 ** 21 ? bodyBytes : view.getBigUint64(start + 4);
    const limit = bodyBytesMax === BODY_BYTES_MAX ? 'max size' : 'configured max size';
    throw new ContentError(406, `message size ${size} is larger than ${limit} ${bodyBytesMax}`);
  }
  const properties = start + CONTENT_HEADER_BYTES;
  const traits = scanProperties(octets, properties, end);
  content.beginBody(octets, properties, end, bodyBytes, traits);
}

/** Throws when a body frame of `size` octets has no place here. */
export function requireBody(content: ContentAssembly, size: number): void {
  if (content.expects === EXPECTS_METHOD) throw expectedMethod();
  if (content.expects === EXPECTS_HEADER) throw expectedHeader('non content header frame');
  if (size > content.missingBytes) throw new ContentError(501, 'content body frame exceeds remaining content size');
}

/** A fault in the frames after a basic.publish, which is then the method that failed. */
export class ContentError extends ReplyError {}

/** 505 for content without a publish; no method is at fault. */
export function expectedMethod(): ReplyError {
  return new ReplyError(505, 'expected method frame, got non method frame instead');
}

function expectedHeader(got: string): ReplyError {
  return new ContentError(505, `expected content header for class ${CLASS_BASIC}, got ${got} instead`);
}

function expectedBody(): ReplyError {
  return new ContentError(505, 'expected content body, got non content body frame instead');
}

/** 505 for a method where header or body must come. */
export function unexpectedMethod(content: ContentAssembly): ReplyError {
  return content.expects === EXPECTS_HEADER ? expectedHeader('non content header frame') : expectedBody();
}

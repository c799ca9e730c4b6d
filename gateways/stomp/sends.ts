/**
 * SEND frames as messages. What stays of the headers (properties and the user's own, not the transport) is moved together
 * where it lies, in front of the body, so that the message is a window on the received octets: nothing is decoded, and
 * nothing copied but header lines that had transport before them.
 *
 * ```
 * SEND \n destination:/queue/a \n receipt:7 \n persistent:true \n foo:bar \n content-length:2 \n \n hi \0
 *                                             `---------- block ---------'                        `body'
 * ```
 *
 * Frames that 1.2 would write otherwise (1.0, carriage returns), and headers that stand for something else (`expires`,
 * `x-cc`), are written anew: the general path.
 */
import type { FieldValue } from '../../broker/fields.ts';
import { Message, Trait, traitsOf } from '../../broker/message.ts';
import { ARGUMENT_PREFIX, invalidHeader, isTrue, truth, wholeNumber } from './declarations.ts';
import { ReplyError } from './errors.ts';
import { escapeText } from './escapes.ts';
import type { FrameHead } from './frame-head.ts';
import { HEADER_IDS, type HeaderName, headerId, headerName } from './header-names.ts';
import { LF, readDecimal } from './octets.ts';
import { STOMP_PROPERTIES } from './properties.ts';

/** Where a SEND goes. */
export interface Address {
  readonly exchange: string;
  readonly routingKey: string;
  /** The destination is not what a MESSAGE would be given by itself, so it is kept with the message. */
  readonly isUnusual: boolean;
}

const HEADER = 0;
const TRANSPORT = 1;
const PROPERTY = 2;
/** A property or header at which somebody has to look. */
const CHECKED = 3;
/** One that stands for something else. */
const TRANSLATED = 4;

const ROLES = new Uint8Array(HEADER_IDS);
function roleOf(role: number, names: readonly HeaderName[]): void {
  for (const name of names) ROLES[headerId(name)] = role;
}
roleOf(TRANSPORT, ['destination', 'content-length', 'receipt', 'receipt-id', 'transaction', 'subscription', 'ack']);
roleOf(TRANSPORT, ['redelivered', 'mandatory', 'destination-type', 'durable', 'auto-delete', 'exclusive']);
roleOf(TRANSPORT, ['x-queue-name', 'x-declare', 'x-exchange-type', 'x-bind', 'x-overflow', 'x-queue-type']);
roleOf(TRANSPORT, ['x-dead-letter-exchange', 'x-dead-letter-routing-key', 'x-expires', 'x-max-length']);
roleOf(TRANSPORT, ['x-max-length-bytes', 'x-max-age', 'x-max-priority', 'x-message-ttl', 'x-delivery-limit']);
roleOf(TRANSPORT, ['x-single-active-consumer', 'x-stream-max-segment-size-bytes', 'x-stream-filter-size-bytes']);
roleOf(PROPERTY, ['content-type', 'content-encoding', 'correlation-id', 'amqp-message-id', 'type', 'app-id']);
roleOf(PROPERTY, ['cluster-id']);
roleOf(CHECKED, ['persistent', 'priority', 'timestamp', 'expiration', 'reply-to', 'user-id', 'message-id']);
roleOf(CHECKED, ['CC', 'BCC', 'x-delay', 'x-deliver-at']);
roleOf(TRANSLATED, ['expires', 'x-cc', 'AMQ_SCHEDULED_DELAY']);

const DESTINATION = headerId('destination');
const CONTENT_LENGTH = headerId('content-length');
const EXPIRATION = headerId('expiration');
const ARGUMENT_OCTETS = Buffer.from(ARGUMENT_PREFIX);
const TRUE = Buffer.from('true');
const PRIORITY_MAX = 255;

/**
 * The message of the SEND that `head` has read, its body ending at `bodyEnd`. Owns the octets of the frame from now on
 * and writes over its header lines. `replyTo` overrides the header. Throws ReplyError for a header that cannot be.
 */
export function readMessage(head: FrameHead, bodyEnd: number, address: Address, replyTo?: string): Message {
  // Known before anything is moved: from then on the head does not fit its octets any more.
  if (head.irregular || replyTo !== undefined || needsRewriting(head, address.isUnusual)) {
    return rewriteMessage(head, bodyEnd, address, replyTo);
  }
  const { octets, ids, starts, ends, count, bodyStart } = head;
  let blockStart = bodyStart;
  let blockEnd = bodyStart;
  let traits = 0;
  for (let index = 0; index < count; index += 1) {
    const id = ids[index] as number;
    const role = ROLES[id] as number;
    if (role === TRANSPORT && !(id === DESTINATION && address.isUnusual)) continue;
    if (id !== 0 && head.find(id) !== index) continue;
    const start = starts[index] as number;
    if (role === HEADER) {
      if (id === 0 && isArgument(octets, start, head.colons[index] as number)) continue;
      traits |= Trait.headers;
    } else if (role === CHECKED) {
      const trait = checkedTrait(head, index, id);
      if (trait < 0) continue;
      traits |= trait;
    }
    const end = ends[index] as number;
    if (blockEnd === bodyStart) {
      blockStart = start;
      blockEnd = end;
    } else {
      if (blockEnd !== start) octets.copyWithin(blockEnd, start, end);
      blockEnd += end - start;
    }
    octets[blockEnd] = LF;
    blockEnd += 1;
  }
  const { exchange, routingKey } = address;
  const codec = STOMP_PROPERTIES;
  return new Message(
    exchange,
    routingKey,
    octets,
    blockStart,
    blockEnd,
    bodyStart,
    bodyEnd,
    codec,
    traits,
    undefined,
    head.chunk?.lend(bodyEnd - blockStart),
  );
}

const TRANSLATED_IDS = [...ROLES.keys()].filter((id) => ROLES[id] === TRANSLATED);

/** Some header stands for something else, or the destination is to be kept and does not come first, as it has to. */
function needsRewriting(head: FrameHead, keepsDestination: boolean): boolean {
  for (let index = 0; index < TRANSLATED_IDS.length; index += 1) {
    if (head.find(TRANSLATED_IDS[index] as number) >= 0) return true;
  }
  return keepsDestination && head.find(DESTINATION) !== 0;
}

/** The length of the body as the head says it, -1 when it does not. Throws ReplyError for one that is no number. */
export function announcedBytes(head: FrameHead): number {
  const index = head.find(CONTENT_LENGTH);
  if (index < 0) return -1;
  const bytes = readDecimal(head.octets, (head.colons[index] as number) + 1, head.ends[index] as number);
  if (bytes >= 0) return bytes;
  const text = head.valueAt(index).trim();
  return /^\d{1,15}$/.test(text) ? Number(text) : Number.NaN;
}

function isArgument(octets: Uint8Array, start: number, end: number): boolean {
  const { length } = ARGUMENT_OCTETS;
  if (end - start <= length) return false;
  for (let index = 0; index < length; index += 1) if (octets[start + index] !== ARGUMENT_OCTETS[index]) return false;
  return true;
}

/** The traits that follow from a header, -1 when it says nothing and is left out. Throws ReplyError. */
function checkedTrait(head: FrameHead, index: number, id: number): number {
  const { octets } = head;
  const start = (head.colons[index] as number) + 1;
  const end = head.ends[index] as number;
  switch (headerName(id)) {
    case 'persistent': {
      if (end - start !== TRUE.length) return -1;
      // `True` as well, see isTrue.
      if (((octets[start] as number) | 0x20) !== TRUE[0]) return -1;
      for (let at = 1; at < TRUE.length; at += 1) if (octets[start + at] !== TRUE[at]) return -1;
      return Trait.persistent;
    }
    case 'priority': {
      const priority = readDecimal(octets, start, end);
      if (priority < 0 || priority > PRIORITY_MAX) throw badPriority(head.valueAt(index));
      return priority === 0 ? 0 : Trait.priority;
    }
    case 'timestamp':
      if (readDecimal(octets, start, end) < 0) throw badTimestamp(head.valueAt(index));
      return 0;
    case 'expiration':
      return Trait.expiration;
    case 'reply-to':
      return Trait.replyTo;
    case 'user-id':
      return Trait.userId;
    case 'CC':
    case 'BCC':
      return Trait.headers | Trait.copies;
    case 'x-delay':
    case 'x-deliver-at':
      return Trait.headers | Trait.delay;
    default:
      throw messageIdRefused();
  }
}

/** The general path: the same, with every header decoded and the block written anew. */
function rewriteMessage(head: FrameHead, bodyEnd: number, address: Address, replyTo?: string): Message {
  let lines = address.isUnusual ? line('destination', head.text(DESTINATION) ?? '') : '';
  const typed: Record<string, FieldValue> = {};
  for (let index = 0; index < head.count; index += 1) {
    const id = head.ids[index] as number;
    const role = ROLES[id] as number;
    if (role === TRANSPORT || (id !== 0 && head.find(id) !== index)) continue;
    if (role === TRANSLATED) {
      lines += translate(head, index, id, typed);
      continue;
    }
    if (role === CHECKED && !isWorthKeeping(head, index, id)) continue;
    const name = head.nameAt(index);
    if (id === 0 && name.startsWith(ARGUMENT_PREFIX) && name.length > ARGUMENT_PREFIX.length) continue;
    lines += line(name, name === 'reply-to' && replyTo !== undefined ? replyTo : head.valueAt(index));
  }
  const suffix = Object.keys(typed).length === 0 ? '' : `\0${JSON.stringify({ h: typed })}`;
  const block = Buffer.from(lines + suffix);
  const body = head.octets.subarray(head.bodyStart, bodyEnd);
  const content = Buffer.concat([block, body]);
  const properties = STOMP_PROPERTIES.decode(block);
  const { length } = block;
  return new Message(
    address.exchange,
    address.routingKey,
    content,
    0,
    length,
    length,
    content.length,
    STOMP_PROPERTIES,
    traitsOf(properties),
    properties,
  );
}

/** The same for the general path, on text: in 1.0 a value may have blanks around it. */
function isWorthKeeping(head: FrameHead, index: number, id: number): boolean {
  const name = headerName(id);
  const value = head.valueAt(index);
  if (name === 'persistent') return isTrue(value);
  if (name === 'priority' && !(/^\d{1,3}$/.test(value) && Number(value) <= PRIORITY_MAX)) throw badPriority(value);
  if (name === 'timestamp' && !/^\d{1,15}$/.test(value)) throw badTimestamp(value);
  if (name === 'message-id') throw messageIdRefused();
  return true;
}

function badPriority(value: string): ReplyError {
  return invalidHeader('priority', value, `a whole number, 0 to ${PRIORITY_MAX}`);
}

function badTimestamp(value: string): ReplyError {
  return invalidHeader('timestamp', value, 'seconds since 1970');
}

function messageIdRefused(): ReplyError {
  return new ReplyError('Invalid header', "'message-id' is not allowed on 'SEND'; an id of yours is 'amqp-message-id'");
}

function line(name: string, value: string): string {
  return `${escapeText(name)}:${escapeText(value)}\n`;
}

/** What `expires`, `x-cc` and `AMQ_SCHEDULED_DELAY` come to. */
function translate(head: FrameHead, index: number, id: number, typed: Record<string, FieldValue>): string {
  const name = headerName(id);
  const value = head.valueAt(index);
  if (name === 'x-cc') {
    typed.CC = value.split(',').map((key) => key.trim());
    return '';
  }
  const number = wholeNumber(name ?? '', value);
  if (name === 'AMQ_SCHEDULED_DELAY') return line('x-delay', String(number));
  // COMPAT: ActiveMQ's absolute time in milliseconds; 0 is never. RabbitMQ's own header goes before.
  if (number === 0 || head.find(EXPIRATION) >= 0) return '';
  return line('expiration', String(Math.max(0, number - Date.now())));
}

const MANDATORY = headerId('mandatory');

/** Whether the SEND is to be answered with an error when no queue takes it. Throws ReplyError. */
export function isMandatory(head: FrameHead): boolean {
  const index = head.find(MANDATORY);
  return index >= 0 && truth('mandatory', head.valueAt(index));
}

/**
 * The head of a frame [STOMP 1.2 Augmented BNF], read where it lies:
 *
 * ```
 * frame    command EOL { name ":" value EOL } EOL body NUL
 * EOL      LF, or CR LF
 * ```
 *
 * Carriage returns before a line feed are taken off in every version: 1.2 asks for it, and people type frames of every
 * version into terminals. Where the body ends is not said here: only SEND believes its content-length.
 */
import type { Chunk } from '../chunk.ts';
import { checkEscape, unescapeOctets, type Version } from './escapes.ts';
import { HEADER_IDS, type HeaderId, identify } from './header-names.ts';
import { BACKSLASH, COLON, CR, decodeText, LF, NUL, SPACE } from './octets.ts';
import { ProtocolError } from './protocol-error.ts';

/** Commands that a client may send, in the order of their numbers; 0 is none. */
const COMMANDS = [
  'SEND',
  'ACK',
  'NACK',
  'SUBSCRIBE',
  'UNSUBSCRIBE',
  'BEGIN',
  'COMMIT',
  'ABORT',
  'CONNECT',
  'STOMP',
  'DISCONNECT',
] as const;

export type CommandName = (typeof COMMANDS)[number];

/** The number of a command, from 1. */
export function commandId(name: CommandName): number {
  return COMMANDS.indexOf(name) + 1;
}

/** The name of a number. */
export function commandName(id: number): CommandName {
  return COMMANDS[id - 1] as CommandName;
}

const COMMAND_OCTETS = COMMANDS.map((name) => Buffer.from(name));
const COMMAND_BYTES_MAX = Math.max(...COMMANDS.map((name) => name.length));
const CONNECT = commandId('CONNECT');
const STOMP = commandId('STOMP');

/** 1 for every octet that means nothing to the grammar of a header line: nearly all of them. */
const IS_PLAIN = new Uint8Array(256).fill(1);
for (const octet of [NUL, LF, CR, COLON, BACKSLASH]) IS_PLAIN[octet] = 0;

/** Headers of one frame. */
export const HEADERS_MAX = 100;
/** Octets of one header line. */
export const HEADER_BYTES_MAX = 64 * 1024;

/**
 * A head that has been read: offsets into the octets it was read from, valid until the next `read`. One instance serves
 * any number of connections, one frame at a time.
 */
export class FrameHead {
  octets: Uint8Array = new Uint8Array(0);
  /** What `octets` are of; set by whoever has them lent to messages. */
  chunk: Chunk | undefined;
  command = 0;
  version: Version = 0;
  /** Headers, in their order; of each: the number of its name, where name, colon and end of value are. */
  count = 0;
  readonly ids = new Uint8Array(HEADERS_MAX);
  readonly starts = new Int32Array(HEADERS_MAX);
  readonly colons = new Int32Array(HEADERS_MAX);
  readonly ends = new Int32Array(HEADERS_MAX);
  /** The first octet of the body. */
  bodyStart = 0;
  /** Some header has a form that 1.2 would not write so: what passes it on has to write it anew. */
  irregular = false;
  /** Where the first header of each known name is, if the stamp beside it is that of this frame. */
  readonly #firsts = new Uint8Array(HEADER_IDS);
  readonly #stamps = new Int32Array(HEADER_IDS);
  #stamp = 0;

  /**
   * Reads the head that begins at `at`; false when it is not all there before `end`. `version` says which escapes are
   * allowed. Throws `ProtocolError`.
   */
  read(octets: Uint8Array, at: number, end: number, version: Version): boolean {
    const afterCommand = this.#readCommand(octets, at, end);
    if (afterCommand < 0) return false;
    this.octets = octets;
    const escapes = version > 10 && this.command !== CONNECT && this.command !== STOMP;
    this.version = escapes ? version : 10;
    this.irregular = false;
    this.#stamp = (this.#stamp + 1) | 0;
    let count = 0;
    let start = afterCommand;
    for (;;) {
      let colon = -1;
      let to = start;
      let octet = -1;
      while (to < end) {
        octet = octets[to] as number;
        if (IS_PLAIN[octet] === 1) {
          to += 1;
          continue;
        }
        if (octet === LF) break;
        if (octet === COLON) {
          if (colon < 0) colon = to;
          else this.irregular = true;
        } else if (octet === NUL) {
          throw new ProtocolError('bad-header', 'the frame ends before the empty line after its headers', to);
        } else if (octet === CR) {
          if (to + 1 < end && octets[to + 1] !== LF) {
            if (version === 12) throw new ProtocolError('bad-header', 'a carriage return must be escaped', to);
            this.irregular = true;
          }
        } else if (!escapes) this.irregular = true;
        else {
          if (to + 1 >= end) break;
          checkEscape(octets, to, version);
          to += 1;
        }
        to += 1;
      }
      if (to - start > HEADER_BYTES_MAX) {
        throw new ProtocolError('header-too-large', `a header is longer than ${HEADER_BYTES_MAX} octets`, start);
      }
      if (octet !== LF || to >= end) return false;
      const next = to + 1;
      if (to > start && octets[to - 1] === CR) to -= 1;
      if (to === start) {
        this.count = count;
        this.bodyStart = next;
        return true;
      }
      if (colon <= start || colon > to) throw badLine(octets, start, to, colon);
      if (count === HEADERS_MAX) {
        throw new ProtocolError('too-many-headers', `more than ${HEADERS_MAX} headers`, start);
      }
      if (!escapes && (octets[colon + 1] === SPACE || octets[to - 1] === SPACE)) this.irregular = true;
      const id = identify(octets, start, colon);
      this.ids[count] = id;
      this.starts[count] = start;
      this.colons[count] = colon;
      this.ends[count] = to;
      // The first of repeated headers counts. [STOMP 1.2 Repeated Header Entries]
      if (id !== 0 && this.#stamps[id] !== this.#stamp) {
        this.#stamps[id] = this.#stamp;
        this.#firsts[id] = count;
      }
      count += 1;
      start = next;
    }
  }

  /** The offset after the command line; -1 when it is not all there. */
  #readCommand(octets: Uint8Array, at: number, end: number): number {
    let to = at;
    while (to < end && octets[to] !== LF && to - at <= COMMAND_BYTES_MAX + 1) to += 1;
    if (to < end && octets[to] !== LF) throw unknownCommand(octets, at, to);
    if (to === end) {
      // A stranger's protocol is recognised without waiting for an end of line that may never come.
      if (to - at > 0 && !couldBegin(octets, at, to)) throw unknownCommand(octets, at, to);
      return -1;
    }
    const lineEnd = octets[to - 1] === CR ? to - 1 : to;
    this.command = 0;
    for (let index = 0; index < COMMAND_OCTETS.length; index += 1) {
      const known = COMMAND_OCTETS[index] as Buffer;
      if (known.length !== lineEnd - at || known[0] !== octets[at] || known[1] !== octets[at + 1]) continue;
      let same = 2;
      while (same < known.length && known[same] === octets[at + same]) same += 1;
      if (same === known.length) {
        this.command = index + 1;
        return to + 1;
      }
    }
    throw unknownCommand(octets, at, lineEnd);
  }

  /** The position of the first header of that name, or -1. */
  find(id: HeaderId): number {
    return this.#stamps[id] === this.#stamp ? (this.#firsts[id] as number) : -1;
  }

  /** The value of the first header of that name, unescaped; undefined when there is none. */
  text(id: HeaderId): string | undefined {
    const index = this.find(id);
    return index < 0 ? undefined : this.valueAt(index);
  }

  /** The name of the header at that position, unescaped. */
  nameAt(index: number): string {
    return unescapeOctets(this.octets, this.starts[index] as number, this.colons[index] as number, this.version);
  }

  /** The value of the header at that position, unescaped; in 1.0 without blanks around it. */
  valueAt(index: number): string {
    const value = unescapeOctets(
      this.octets,
      (this.colons[index] as number) + 1,
      this.ends[index] as number,
      this.version,
    );
    return this.version > 10 || this.command === CONNECT || this.command === STOMP ? value : value.trim();
  }

  /** All headers; of repeated ones the first. */
  table(): ReadonlyMap<string, string> {
    const headers = new Map<string, string>();
    for (let index = 0; index < this.count; index += 1) {
      const name = this.nameAt(index);
      if (!headers.has(name)) headers.set(name, this.valueAt(index));
    }
    return headers;
  }
}

function badLine(octets: Uint8Array, start: number, end: number, colon: number): ProtocolError {
  const shown = decodeText(octets, start, Math.min(end, start + 64));
  const why = colon === start ? 'has no name' : 'has no colon';
  return new ProtocolError('bad-header', `the header line ${JSON.stringify(shown)} ${why}`, start);
}

function unknownCommand(octets: Uint8Array, at: number, end: number): ProtocolError {
  const isLong = end - at > COMMAND_BYTES_MAX;
  const shown = JSON.stringify(decodeText(octets, at, Math.min(end, at + COMMAND_BYTES_MAX)) + (isLong ? '…' : ''));
  return new ProtocolError('unknown-command', `${shown} is no command that a client may send`, at);
}

/** Whether some command begins with `octets[at, end)`, a line end included. */
function couldBegin(octets: Uint8Array, at: number, end: number): boolean {
  return COMMAND_OCTETS.some((known) => {
    for (let index = 0; at + index < end; index += 1) {
      const octet = octets[at + index];
      if (index < known.length ? known[index] !== octet : octet !== CR) return false;
    }
    return true;
  });
}

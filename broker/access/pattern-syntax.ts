/**
 * The grammar of the regular expressions in permissions and policies: what RabbitMQ's users write for PCRE, read into a
 * tree. Only what a set of strings can express is accepted: no backreferences, no possessive or atomic groups, no
 * recursion. What PCRE knows and this does not is refused by name, never read as something else, because half of these
 * patterns decide who may do what. Error texts are PCRE's where PCRE has one. [pcrepattern(3)]
 */

/** Why a pattern is refused; `position` is the index of the character that cannot be. */
export class PatternError extends Error {
  readonly position: number;

  constructor(message: string, position: number) {
    super(message);
    this.name = 'PatternError';
    this.position = position;
  }
}

/** Where an assertion without width holds. `last` also holds before a final line end, as `$` does. */
export type Place = 'start' | 'end' | 'last' | 'line-start' | 'line-end' | 'word-edge' | 'no-word-edge';

/** Inclusive ranges of UTF-16 code units: low, high, low, high, … */
export type CharRanges = readonly number[];

export type PatternNode =
  | { readonly kind: 'char'; readonly ranges: CharRanges }
  | { readonly kind: 'all'; readonly items: readonly PatternNode[] }
  | { readonly kind: 'any'; readonly options: readonly PatternNode[] }
  /** `max` may be Infinity. */
  | { readonly kind: 'repeat'; readonly item: PatternNode; readonly min: number; readonly max: number }
  | { readonly kind: 'place'; readonly place: Place }
  | { readonly kind: 'look'; readonly item: PatternNode; readonly ahead: boolean; readonly negative: boolean };

/** The options that `(?…)` switches. */
interface Flags {
  readonly caseless: boolean;
  readonly dotAll: boolean;
  readonly multiline: boolean;
}

/** PCRE's own bound of a counted repeat. */
const REPEAT_MAX = 65_535;
/** Groups within groups; bounds the recursion of reader and compiler. PCRE's own bound. */
const DEPTH_MAX = 250;
const CODE_MAX = 0xffff;

const DIGIT: CharRanges = [0x30, 0x39];
const UPPER: CharRanges = [0x41, 0x5a];
const LOWER: CharRanges = [0x61, 0x7a];
const WORD: CharRanges = [...DIGIT, ...UPPER, 0x5f, 0x5f, ...LOWER];
const SPACE: CharRanges = [0x09, 0x0d, 0x20, 0x20];
const HORIZONTAL: CharRanges = [0x09, 0x09, 0x20, 0x20, 0xa0, 0xa0];
const VERTICAL: CharRanges = [0x0a, 0x0d, 0x85, 0x85];
const NOT_LINE_END: CharRanges = [0, 0x09, 0x0b, CODE_MAX];
const EVERYTHING: CharRanges = [0, CODE_MAX];
/** Braces that do not have this form stand for themselves, e.g. those of `{username}`. */
const QUANTIFIER = /[*+?]|\{(\d+)(?:(,)(\d*))?\}/y;
const NOTHING: PatternNode = { kind: 'all', items: [] };

/** `\d` and its like; a capital letter means the complement. */
const ESCAPED_CLASSES: { readonly [letter: string]: CharRanges } = {
  d: DIGIT,
  w: WORD,
  s: SPACE,
  h: HORIZONTAL,
  v: VERTICAL,
};
const ESCAPED_CHARS: { readonly [letter: string]: number } = { a: 7, e: 27, f: 12, n: 10, r: 13, t: 9 };
const ESCAPED_PLACES: { readonly [letter: string]: Place } = {
  A: 'start',
  z: 'end',
  Z: 'last',
  b: 'word-edge',
  B: 'no-word-edge',
};

/** `[:alpha:]` and its like. */
const POSIX_CLASSES: ReadonlyMap<string, CharRanges> = new Map([
  ['alnum', [...DIGIT, ...UPPER, ...LOWER]],
  ['alpha', [...UPPER, ...LOWER]],
  ['ascii', [0, 0x7f]],
  ['blank', [0x09, 0x09, 0x20, 0x20]],
  ['cntrl', [0, 0x1f, 0x7f, 0x7f]],
  ['digit', DIGIT],
  ['graph', [0x21, 0x7e]],
  ['lower', LOWER],
  ['print', [0x20, 0x7e]],
  ['punct', [0x21, 0x2f, 0x3a, 0x40, 0x5b, 0x60, 0x7b, 0x7e]],
  ['space', SPACE],
  ['upper', UPPER],
  ['word', WORD],
  ['xdigit', [...DIGIT, 0x41, 0x46, 0x61, 0x66]],
]);

/** Everything that is not in `ranges`. */
function complement(ranges: CharRanges): CharRanges {
  const pairs: [number, number][] = [];
  for (let index = 0; index < ranges.length; index += 2) pairs.push([ranges[index] ?? 0, ranges[index + 1] ?? 0]);
  pairs.sort((a, b) => a[0] - b[0]);
  const result: number[] = [];
  let next = 0;
  for (const [low, high] of pairs) {
    if (low > next) result.push(next, low - 1);
    next = Math.max(next, high + 1);
  }
  if (next <= CODE_MAX) result.push(next, CODE_MAX);
  return result;
}

/** `ranges` and the other case of the ASCII letters in them: without its UTF mode PCRE knows no other case. */
function bothCases(ranges: CharRanges): CharRanges {
  const result = [...ranges];
  for (let index = 0; index < ranges.length; index += 2) {
    const low = ranges[index] ?? 0;
    const high = ranges[index + 1] ?? 0;
    const upper: [number, number] = [Math.max(low, 0x41), Math.min(high, 0x5a)];
    const lower: [number, number] = [Math.max(low, 0x61), Math.min(high, 0x7a)];
    if (upper[0] <= upper[1]) result.push(upper[0] + 32, upper[1] + 32);
    if (lower[0] <= lower[1]) result.push(lower[0] - 32, lower[1] - 32);
  }
  return result;
}

/** Reads a pattern. Throws PatternError. */
export function parsePattern(source: string): PatternNode {
  return new PatternReader(source).read();
}

class PatternReader {
  readonly #source: string;
  #at = 0;
  #depth = 0;
  #flags: Flags = { caseless: false, dotAll: false, multiline: false };

  constructor(source: string) {
    this.#source = source;
  }

  read(): PatternNode {
    const node = this.#readAlternatives();
    if (this.#at < this.#source.length) throw this.#error('unmatched parentheses');
    return node;
  }

  #error(message: string, position = this.#at): PatternError {
    return new PatternError(message, position);
  }

  /** Takes `text` when it is what comes next. */
  #take(text: string): boolean {
    if (!this.#source.startsWith(text, this.#at)) return false;
    this.#at += text.length;
    return true;
  }

  /** Takes what `expression` (sticky) matches here. */
  #match(expression: RegExp): RegExpExecArray | null {
    expression.lastIndex = this.#at;
    const match = expression.exec(this.#source);
    if (match !== null) this.#at += match[0].length;
    return match;
  }

  /** alternatives: sequence ( '|' sequence )*; flags set inside end with the group. */
  #readAlternatives(): PatternNode {
    const outer = this.#flags;
    const options: PatternNode[] = [];
    do options.push(this.#readSequence());
    while (this.#take('|'));
    this.#flags = outer;
    return options.length === 1 ? (options[0] ?? NOTHING) : { kind: 'any', options };
  }

  #readSequence(): PatternNode {
    const items: PatternNode[] = [];
    for (;;) {
      const next = this.#source[this.#at];
      if (next === undefined || next === '|' || next === ')') return { kind: 'all', items };
      if (this.#take('\\Q')) items.push(...this.#readQuoted());
      else if (!this.#take('\\E') && this.#match(/\(\?#[^)]*\)/y) === null) items.push(this.#readRepeated());
    }
  }

  /** `\Q…\E`; a quantifier behind it belongs to the last character. */
  #readQuoted(): PatternNode[] {
    const end = this.#source.indexOf('\\E', this.#at);
    const text = this.#source.slice(this.#at, end < 0 ? undefined : end);
    this.#at += text.length + (end < 0 ? 0 : 2);
    const items = Array.from({ length: text.length }, (_, index) => this.#char(text.charCodeAt(index)));
    const last = items.pop();
    return last === undefined ? items : [...items, this.#readQuantifiers(last)];
  }

  #readRepeated(): PatternNode {
    const start = this.#at;
    if (this.#match(QUANTIFIER) !== null) throw this.#error('nothing to repeat', start);
    const bare = this.#match(/\(\?[imsx-]+\)/y);
    if (bare !== null) {
      this.#flags = this.#changeFlags(bare[0].slice(2, -1));
      return NOTHING;
    }
    return this.#readQuantifiers(this.#readAtom());
  }

  /** Greedy or lazy makes no difference to whether something matches; possessive does. */
  #readQuantifiers(item: PatternNode): PatternNode {
    let node = item;
    for (;;) {
      const start = this.#at;
      const match = this.#match(QUANTIFIER);
      if (match === null) return node;
      const [text, least, comma, most] = match;
      let min = text === '+' ? 1 : 0;
      let max = text === '?' ? 1 : Number.POSITIVE_INFINITY;
      if (least !== undefined) {
        min = Number(least);
        if (comma === undefined) max = min;
        else if (most) max = Number(most);
        if (min > REPEAT_MAX || (max > REPEAT_MAX && max !== Number.POSITIVE_INFINITY)) {
          throw this.#error('number too big in {} quantifier', start);
        }
        if (min > max) throw this.#error('numbers out of order in {} quantifier', start);
      }
      if (this.#take('+')) throw this.#error('possessive quantifiers are not supported', start);
      this.#take('?');
      node = { kind: 'repeat', item: node, min, max };
    }
  }

  #readAtom(): PatternNode {
    const start = this.#at;
    const character = this.#source[start] ?? '';
    this.#at += 1;
    switch (character) {
      case '.':
        return { kind: 'char', ranges: this.#flags.dotAll ? EVERYTHING : NOT_LINE_END };
      case '^':
        return { kind: 'place', place: this.#flags.multiline ? 'line-start' : 'start' };
      case '$':
        return { kind: 'place', place: this.#flags.multiline ? 'line-end' : 'last' };
      case '(':
        return this.#readGroup(start);
      case '[':
        return this.#readClass(start);
      case '\\':
        return this.#readEscape(start);
      default:
        return this.#char(character.charCodeAt(0));
    }
  }

  #char(code: number): PatternNode {
    return this.#set([code, code]);
  }

  #set(ranges: CharRanges): PatternNode {
    return { kind: 'char', ranges: this.#flags.caseless ? bothCases(ranges) : ranges };
  }

  /** After `(`. */
  #readGroup(start: number): PatternNode {
    this.#depth += 1;
    if (this.#depth > DEPTH_MAX) throw this.#error('parentheses are too deeply nested', start);
    const outer = this.#flags;
    let look: { ahead: boolean; negative: boolean } | undefined;
    if (this.#source[this.#at] === '?') {
      const opening = this.#match(/\?(?:[:|]|P?<[A-Za-z_]\w*>|'[A-Za-z_]\w*'|(<?[=!])|([imsx-]+):)/y);
      if (opening === null) throw this.#error('unrecognized or unsupported character after (?', start);
      const [, lookaround, flags] = opening;
      if (lookaround !== undefined) look = { ahead: lookaround.length === 1, negative: lookaround.endsWith('!') };
      if (flags !== undefined) this.#flags = this.#changeFlags(flags);
    } else if (this.#source[this.#at] === '*') {
      throw this.#error('(*VERB) is not supported', start);
    }
    const item = this.#readAlternatives();
    this.#flags = outer;
    if (!this.#take(')')) throw this.#error('missing )');
    this.#depth -= 1;
    return look === undefined ? item : { kind: 'look', item, ...look };
  }

  #changeFlags(letters: string): Flags {
    const [on = '', off = '', ...rest] = letters.split('-');
    if (rest.length > 0 || letters.includes('x')) throw this.#error(`option (?${letters}) is not supported`);
    const changed = (letter: string, before: boolean): boolean =>
      (before || on.includes(letter)) && !off.includes(letter);
    const { caseless, dotAll, multiline } = this.#flags;
    return { caseless: changed('i', caseless), dotAll: changed('s', dotAll), multiline: changed('m', multiline) };
  }

  /** After `\`, outside a class. */
  #readEscape(start: number): PatternNode {
    const letter = this.#source[this.#at];
    if (letter === undefined) throw this.#error('\\ at end of pattern', start);
    const place = ESCAPED_PLACES[letter];
    if (place !== undefined) {
      this.#at += 1;
      return { kind: 'place', place };
    }
    if (letter === 'N') {
      this.#at += 1;
      return { kind: 'char', ranges: NOT_LINE_END };
    }
    if (letter >= '1' && letter <= '9') throw this.#error('backreferences are not supported', start);
    return this.#set(this.#readEscapedSet(start));
  }

  /** After `\`: what may stand inside a class and outside. One code is answered as a range of one. */
  #readEscapedSet(start: number): CharRanges {
    const letter = this.#source[this.#at];
    if (letter === undefined) throw this.#error('\\ at end of pattern', start);
    const hexadecimal = this.#match(/x(?:\{([0-9A-Fa-f]{1,6})\}|([0-9A-Fa-f]{0,2}))/y);
    if (hexadecimal !== null) return this.#code(Number.parseInt(hexadecimal[1] ?? `0${hexadecimal[2]}`, 16), start);
    const octal = this.#match(/0[0-7]{0,2}/y);
    if (octal !== null) return this.#code(Number.parseInt(octal[0], 8), start);
    const control = this.#match(/c([A-Za-z@[\\\]^_])/y);
    if (control !== null) return this.#code((control[1] ?? '').toUpperCase().charCodeAt(0) ^ 0x40, start);
    this.#at += 1;
    const known = ESCAPED_CHARS[letter];
    if (known !== undefined) return [known, known];
    const set = ESCAPED_CLASSES[letter.toLowerCase()];
    if (set !== undefined) return letter === letter.toLowerCase() ? set : complement(set);
    if (/[A-Za-z0-9]/.test(letter)) throw this.#error(`\\${letter} is not supported`, start);
    return this.#code(letter.charCodeAt(0), start);
  }

  #code(code: number, start: number): CharRanges {
    if (code > CODE_MAX) throw this.#error('character value in \\x{} is too large', start);
    return [code, code];
  }

  /** After `[`. */
  #readClass(start: number): PatternNode {
    const negative = this.#take('^');
    const ranges: number[] = [];
    for (let first = true; ; first = false) {
      if (this.#at >= this.#source.length) throw this.#error('missing terminating ] for character class', start);
      if (!first && this.#take(']')) break;
      const low = this.#readClassMember();
      const isRange = low.length === 2 && low[0] === low[1] && this.#match(/-(?!\])/y) !== null;
      if (!isRange) {
        ranges.push(...low);
        continue;
      }
      const position = this.#at;
      if (position >= this.#source.length) throw this.#error('missing terminating ] for character class', start);
      const high = this.#readClassMember();
      if (high.length !== 2 || high[0] !== high[1]) throw this.#error('invalid range in character class', position);
      if ((high[0] ?? 0) < (low[0] ?? 0)) throw this.#error('range out of order in character class', position);
      ranges.push(low[0] ?? 0, high[0] ?? 0);
    }
    const set = this.#flags.caseless ? bothCases(ranges) : ranges;
    return { kind: 'char', ranges: negative ? complement(set) : set };
  }

  #readClassMember(): CharRanges {
    const start = this.#at;
    const posix = this.#match(/\[:(\^?)([a-z]+):\]/y);
    if (posix !== null) {
      const set = POSIX_CLASSES.get(posix[2] ?? '');
      if (set === undefined) throw this.#error('unknown POSIX class name', start);
      return posix[1] === '^' ? complement(set) : set;
    }
    if (this.#match(/\[[.=]/y) !== null) throw this.#error('POSIX collating elements are not supported', start);
    if (this.#take('\\')) {
      if (this.#take('b')) return [8, 8];
      if (/[QE1-9]/.test(this.#source[this.#at] ?? '')) {
        throw this.#error(`\\${this.#source[this.#at]} in a character class is not supported`, start);
      }
      return this.#readEscapedSet(start);
    }
    const code = this.#source.charCodeAt(this.#at);
    this.#at += 1;
    return [code, code];
  }
}

/**
 * Regular expressions of permissions and policies, matched in bounded time. A pattern comes from one person and the
 * names it is tried on from another, and a broker has one thread: no pattern may hold it up. So patterns are not given
 * to a backtracking engine. The tree of pattern-syntax.ts becomes a nondeterministic automaton all of whose states are
 * followed at once: at most states × characters steps per match, whatever the pattern; lookaround, which begins anew at
 * each character, is held to a number of steps. There is therefore no such thing as a catastrophic pattern to refuse.
 */
import { assert, unreachable } from '../assert.ts';
import { type CharRanges, PatternError, type PatternNode, type Place, parsePattern } from './pattern-syntax.ts';

export { PatternError } from './pattern-syntax.ts';

/** Characters of a pattern; RabbitMQ 4's bound. */
export const PATTERN_LENGTH_MAX = 1024;
/** States of one automaton; counted repeats multiply them. */
export const PATTERN_STATES_MAX = 2000;
/**
 * States entered in one match, some tens of milliseconds. Without lookaround no name of 255 characters gets there; a
 * match that does is none, as in RabbitMQ.
 */
export const MATCH_STEPS_MAX = 1_000_000;

/** A state of the automaton. `next` and the like are indexes of other states. */
type State =
  | { readonly kind: 'char'; readonly ranges: CharRanges; readonly next: number }
  | { readonly kind: 'fork'; readonly next: number; other: number }
  | { readonly kind: 'place'; readonly place: Place; readonly next: number }
  | {
      readonly kind: 'look';
      readonly start: number;
      readonly ahead: boolean;
      readonly negative: boolean;
      readonly next: number;
    }
  | { readonly kind: 'done' };

/** Index of the one accepting state. */
const DONE = 0;
const NEWLINE = 10;

/** A compiled regular expression. Immutable. */
export class Pattern {
  readonly source: string;
  readonly #states: readonly State[];
  readonly #start: number;

  /** Throws PatternError for what is no regular expression, is not supported, or is too large. */
  constructor(source: string) {
    if (source.length > PATTERN_LENGTH_MAX) {
      throw new PatternError(`must not exceed ${PATTERN_LENGTH_MAX} characters`, PATTERN_LENGTH_MAX);
    }
    const tree = parsePattern(source);
    const states: State[] = [{ kind: 'done' }];
    this.source = source;
    this.#start = compile(tree, DONE, states);
    this.#states = states;
  }

  /** True when the pattern matches anywhere in `text`. */
  matches(text: string): boolean {
    if (this.source === '' || this.source === '.*') return true;
    const matching = new Matching(this.#states, text);
    return matching.find(this.#start, 0, false, undefined) && matching.stepsLeft > 0;
  }
}

/** Appends the states of `node`, which lead on to `next`; returns the index of its first state. */
function compile(node: PatternNode, next: number, states: State[]): number {
  switch (node.kind) {
    case 'char':
      return append({ kind: 'char', ranges: node.ranges, next }, states);
    case 'place':
      return append({ kind: 'place', place: node.place, next }, states);
    case 'all':
      return node.items.reduceRight((following, item) => compile(item, following, states), next);
    case 'any':
      return node.options
        .map((option) => compile(option, next, states))
        .reduceRight((other, start) => append({ kind: 'fork', next: start, other }, states));
    case 'look': {
      const start = compile(node.item, DONE, states);
      return append({ kind: 'look', start, ahead: node.ahead, negative: node.negative, next }, states);
    }
    case 'repeat': {
      let following = next;
      if (node.max === Number.POSITIVE_INFINITY) {
        const fork = { kind: 'fork' as const, next, other: next };
        following = append(fork, states);
        fork.other = compile(node.item, following, states);
      } else {
        for (let count = node.min; count < node.max; count += 1) {
          following = append({ kind: 'fork', next, other: compile(node.item, following, states) }, states);
        }
      }
      for (let count = 0; count < node.min; count += 1) {
        const start = compile(node.item, following, states);
        // Nothing, repeated, is nothing: no reason to count to 65,535.
        if (start === following) break;
        following = start;
      }
      return following;
    }
    default:
      return unreachable(node);
  }
}

function append(state: State, states: State[]): number {
  if (states.length >= PATTERN_STATES_MAX) throw new PatternError('regular expression is too large', 0);
  return states.push(state) - 1;
}

/** One pattern at work on one text. */
class Matching {
  /** When none is left nothing more is found, and the whole answer means nothing. */
  stepsLeft = MATCH_STEPS_MAX;
  readonly #states: readonly State[];
  readonly #text: string;
  /** What lookarounds answered: key = state × (characters + 1) + position. */
  readonly #looks = new Map<number, boolean>();

  constructor(states: readonly State[], text: string) {
    this.#states = states;
    this.#text = text;
  }

  /**
   * Does the automaton from state `start` accept, beginning at `from`, or `anchored` false: there or anywhere later;
   * ending at `end`, or undefined: anywhere?
   */
  find(start: number, from: number, anchored: boolean, end: number | undefined): boolean {
    /** Position at which each state was last entered. */
    const entered = new Int32Array(this.#states.length).fill(-1);
    let waiting: number[] = [];
    for (let position = from; ; position += 1) {
      const entry = position === from || !anchored ? [start] : [];
      const consuming = this.#follow([...entry, ...waiting], position, entered);
      if (this.stepsLeft <= 0) return false;
      if (entered[DONE] === position && (end === undefined || end === position)) return true;
      if (position >= (end ?? this.#text.length) || (anchored && consuming.length === 0)) return false;
      const code = this.#text.charCodeAt(position);
      waiting = [];
      for (const index of consuming) {
        const state = this.#states[index];
        if (state?.kind === 'char' && contains(state.ranges, code)) waiting.push(state.next);
      }
    }
  }

  /** Follows what needs no character from the `pending` states; returns those that wait for one. Empties `pending`. */
  #follow(pending: number[], position: number, entered: Int32Array): number[] {
    const consuming: number[] = [];
    for (let index = pending.pop(); index !== undefined; index = pending.pop()) {
      if (entered[index] === position) continue;
      entered[index] = position;
      this.stepsLeft -= 1;
      const state = this.#states[index];
      assert(state !== undefined, 'a pattern leads to no state');
      switch (state.kind) {
        case 'char':
          consuming.push(index);
          break;
        case 'fork':
          pending.push(state.next, state.other);
          break;
        case 'place':
          if (isAt(state.place, this.#text, position)) pending.push(state.next);
          break;
        case 'look':
          if (this.#look(index, state, position)) pending.push(state.next);
          break;
        case 'done':
          break;
        default:
          unreachable(state);
      }
    }
    return consuming;
  }

  #look(index: number, state: State & { readonly kind: 'look' }, position: number): boolean {
    const key = index * (this.#text.length + 1) + position;
    const known = this.#looks.get(key);
    if (known !== undefined) return known;
    const found = state.ahead
      ? this.find(state.start, position, true, undefined)
      : this.find(state.start, 0, false, position);
    this.#looks.set(key, found !== state.negative);
    return found !== state.negative;
  }
}

function contains(ranges: CharRanges, code: number): boolean {
  for (let index = 0; index < ranges.length; index += 2) {
    if (code >= (ranges[index] ?? 0) && code <= (ranges[index + 1] ?? 0)) return true;
  }
  return false;
}

function isAt(place: Place, text: string, position: number): boolean {
  const last = text.length;
  switch (place) {
    case 'start':
      return position === 0;
    case 'end':
      return position === last;
    case 'last':
      return position === last || (position === last - 1 && text.charCodeAt(position) === NEWLINE);
    case 'line-start':
      return position === 0 || (position < last && text.charCodeAt(position - 1) === NEWLINE);
    case 'line-end':
      return position === last || text.charCodeAt(position) === NEWLINE;
    case 'word-edge':
      return isWord(text, position - 1) !== isWord(text, position);
    case 'no-word-edge':
      return isWord(text, position - 1) === isWord(text, position);
    default:
      return unreachable(place);
  }
}

function isWord(text: string, position: number): boolean {
  return /^\w$/.test(text.charAt(position));
}

import fc from 'fast-check';
import { afterEach, describe, expect, it } from 'vitest';
import { EMPTY_TABLE } from '../../../broker/fields.ts';
import type { Bound } from '../../../broker/matchers/matcher.ts';
import { TopicMatcher } from '../../../broker/matchers/topic.ts';
import { topicMatches } from '../../support/naive-matchers.ts';
import { runs } from '../../support/runs.ts';

const bind = (bindingKey: string): Bound => ({ bindingKey, arguments: EMPTY_TABLE });

function matched(matcher: TopicMatcher<Bound>, routingKey: string): Bound[] {
  const found: Bound[] = [];
  matcher.match(routingKey, EMPTY_TABLE, found);
  return found;
}

const matchedKeys = (matcher: TopicMatcher<Bound>, routingKey: string): string[] =>
  matched(matcher, routingKey).map(({ bindingKey }) => bindingKey);

const pattern = fc
  .array(fc.constantFrom('a', 'b', '', '*', '#', '#a'), { maxLength: 6 })
  .map((words) => words.join('.'));
const key = fc.array(fc.constantFrom('a', 'b', '', '#a', '*', '#'), { maxLength: 7 }).map((words) => words.join('.'));

describe('topic matcher', () => {
  it('finds what a naive matcher finds, each binding once, while bindings come and go', () => {
    const step = fc.oneof(fc.record({ add: pattern }), fc.record({ remove: fc.nat() }), fc.record({ match: key }));
    fc.assert(
      fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
        const matcher = new TopicMatcher<Bound>();
        const bindings: Bound[] = [];
        for (const one of steps) {
          if ('add' in one) {
            const binding = bind(one.add);
            bindings.push(binding);
            matcher.add(binding);
          } else if ('remove' in one) {
            const [binding] = bindings.length > 0 ? bindings.splice(one.remove % bindings.length, 1) : [];
            if (binding !== undefined) matcher.remove(binding);
          } else {
            const found = matched(matcher, one.match);
            const wanted = bindings.filter(({ bindingKey }) => topicMatches(bindingKey, one.match));
            expect(found.length).toBe(wanted.length);
            expect(new Set(found)).toEqual(new Set(wanted));
          }
        }
      }),
      runs(500),
    );
  });

  it.each([
    ['', ['', '#', '#.#']],
    ['a', ['a', '*', '#', '#.#', '#.*', '*.#', 'a.#', '#.a']],
    ['.', ['#', '*.*', '.', '#.#', '#.*', '*.#', '*.']],
    ['a.b', ['*.b', 'a.*', '*.*', '#', 'a.#', '#.b', 'a.#.b', 'a.b', '#.#', '#.*', '*.#']],
    ['a..b', ['a.#', '#.b', 'a.*.b', 'a..b', '#', 'a.#.b', '#.#', '#.*', '*.#']],
  ])('the key %j is matched by exactly %j', (routingKey, wanted) => {
    const patterns = ['', 'a', '*', '#', '#.#', '#.*', '*.#', 'a.#', '#.a', '*.*', '.', '*.', 'a.*', '*.b', '#.b'];
    const matcher = new TopicMatcher<Bound>();
    for (const one of new Set([...patterns, 'a.b', 'a.#.b', 'a..b', 'a.*.b', 'a.a', 'b'])) matcher.add(bind(one));
    expect(matchedKeys(matcher, routingKey).sort()).toEqual([...wanted].sort());
  });

  it('words named like properties of objects are words', () => {
    const matcher = new TopicMatcher<Bound>();
    matcher.add(bind('__proto__.constructor'));
    expect(matchedKeys(matcher, '__proto__.constructor')).toEqual(['__proto__.constructor']);
    expect(matchedKeys(matcher, 'constructor.__proto__')).toEqual([]);
  });

  it('two bindings with one key are two, and removing one leaves the other', () => {
    const matcher = new TopicMatcher<Bound>();
    const [one, other] = [bind('a.#'), bind('a.#')];
    matcher.add(one);
    matcher.add(other);
    expect(matched(matcher, 'a.b')).toHaveLength(2);
    matcher.remove(one);
    expect(matched(matcher, 'a.b')).toEqual([other]);
  });
});

describe('topic matcher on hostile patterns', () => {
  const lookUp = Map.prototype.get;
  afterEach(() => {
    Map.prototype.get = lookUp;
  });

  /** Matches with every look-up of a word counted; gives up over the bound instead of taking for ever. */
  function countLookUps(matcher: TopicMatcher<Bound>, routingKey: string, bound: number): number {
    let count = 0;
    Map.prototype.get = function (this: Map<unknown, unknown>, word: unknown) {
      if (++count > bound) throw new Error(`more than ${bound} look-ups`);
      return lookUp.call(this, word);
    };
    matched(matcher, routingKey);
    Map.prototype.get = lookUp;
    return count;
  }

  it.each([
    ['#.a.#.a.#.a.#.a.#.a.#.a.#.a.#.b', 'a'],
    ['#.*.#.*.#.*.#.*.#.*.#.a.#.b', 'a'],
    ['*.#.*.#.*.#.a.#.*.#.a.#.a.#.b', 'a'],
  ])('%s takes a number of steps that grows with words x nodes', (hostile, word) => {
    const matcher = new TopicMatcher<Bound>();
    matcher.add(bind(hostile));
    const nodes = hostile.split('.').length + 1;
    for (const length of [10, 100, 1000]) {
      const routingKey = Array.from({ length }, () => word).join('.');
      const count = countLookUps(matcher, routingKey, length * nodes);
      expect(count).toBeGreaterThan(0);
      expect(matchedKeys(matcher, routingKey)).toEqual([]);
      expect(matchedKeys(matcher, `${routingKey}.b`)).toEqual([hostile]);
    }
  });

  it('the longest key of one word a dot, under many patterns at once', () => {
    const matcher = new TopicMatcher<Bound>();
    const patterns = Array.from({ length: 50 }, (_, index) => `${'#.a.'.repeat(index + 1)}#.z`);
    for (const one of patterns) matcher.add(bind(one));
    // All of them share one path through the trie, with a branch to `#.z` at each step.
    const nodes = 50 * 4 + 2;
    const routingKey = 'a.'.repeat(127);
    expect(countLookUps(matcher, routingKey, 128 * nodes)).toBeGreaterThan(128);
    expect(matchedKeys(matcher, `${'a.'.repeat(20)}z`)).toHaveLength(20);
  });
});

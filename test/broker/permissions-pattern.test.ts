import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { PATTERN_LENGTH_MAX, Pattern, PatternError } from '../../broker/access/pattern.ts';
import { runs } from '../support/runs.ts';

function matches(pattern: string, text: string): boolean {
  return new Pattern(pattern).matches(text);
}

function refusal(pattern: string): string {
  try {
    new Pattern(pattern);
  } catch (error) {
    if (error instanceof PatternError) return error.message;
    throw error;
  }
  return 'accepted';
}

describe('patterns mean what PCRE means', () => {
  const cases: readonly (readonly [pattern: string, matching: readonly string[], other: readonly string[]])[] = [
    ['', ['', 'anything'], []],
    ['.*', ['', 'a\nb'], []],
    ['^$', ['', '\n'], ['a']],
    ['orders', ['orders', 'my-orders-2'], ['order']],
    ['^amq\\.', ['amq.direct'], ['amqp', 'my.amq.x']],
    ['^(?!amq\\.).*', ['orders', ''], ['amq.direct']],
    ['^(a|b|)c$', ['ac', 'bc', 'c'], ['abc', 'cc']],
    ['^a{2,3}$', ['aa', 'aaa'], ['a', 'aaaa']],
    ['^a{2}b{1,}$', ['aab', 'aabb'], ['ab', 'aa']],
    ['^a{,2}$', ['a{,2}'], ['a', 'aa']],
    ['^{username}$', ['{username}'], ['username']],
    ['^(ab+?)*c$', ['c', 'abbabc'], ['aabc']],
    ['^[a-c_.-]+$', ['a-b.c_'], ['d', '']],
    ['^[^\\d\\s]+$', ['ab'], ['a1', 'a b']],
    ['^[]a]+$', [']a]'], ['b']],
    ['^[[:alpha:][:digit:]]+$', ['a1Z'], ['a-']],
    ['^[[:^alpha:]]$', ['1'], ['a']],
    ['^[\\w-]+\\.\\d+$', ['a-b.12'], ['a b.1']],
    ['^\\x41\\x{42}\\010?$', ['AB'], ['ab']],
    ['^\\Qa.b*\\Ec$', ['a.b*c'], ['aXbbc']],
    ['(?i)^orders$', ['ORDERS', 'Orders'], ['order']],
    ['^(?i:or)ders$', ['ORders'], ['ORDERS']],
    ['^(?i)a(?-i)b$', ['Ab'], ['AB']],
    ['^[a-z]+$(?i)', ['ab'], ['AB']],
    ['\\Aab\\z', ['ab'], ['ab\n', 'xab']],
    ['\\Aab\\Z', ['ab', 'ab\n'], ['abc']],
    ['^a.b$', ['axb'], ['a\nb', 'ab']],
    ['(?s)^a.b$', ['a\nb'], ['ab']],
    ['(?m)^b$', ['a\nb\nc'], ['ab']],
    ['\\bdog\\b', ['a dog.', 'dog'], ['dogs']],
    ['a\\Bb', ['ab'], ['a b']],
    ['(?<=\\.)created$', ['order.created'], ['ordercreated']],
    ['(?<!test)-queue$', ['my-queue'], ['test-queue']],
    ['^(?=.*a)(?=.*b)', ['xbxa'], ['a', 'b']],
    ['^(?<name>a)(?P<other>b)(?:c)$', ['abc'], ['ab']],
    ['a(?#not a group)b', ['ab'], ['a(?#not a group)b']],
    ['^é+$', ['éé'], ['e']],
    ['^(a?){3}$', ['', 'aaa'], ['aaaa']],
    ['^(a*)*$', ['', 'aaa'], ['b']],
    ['^\\.\\-\\/\\_$', ['.-/_'], ['x']],
  ];
  it.each(cases)('%s', (pattern, matching, other) => {
    for (const text of matching) expect(matches(pattern, text), text).toBe(true);
    for (const text of other) expect(matches(pattern, text), text).toBe(false);
  });
});

describe('what cannot be followed is refused by name', () => {
  it.each([
    ['(', 'missing )'],
    ['a)', 'unmatched parentheses'],
    ['*a', 'nothing to repeat'],
    ['a|+', 'nothing to repeat'],
    ['[a', 'missing terminating ] for character class'],
    ['[b-a]', 'range out of order in character class'],
    ['[[:letters:]]', 'unknown POSIX class name'],
    ['[[:constructor:]]', 'unknown POSIX class name'],
    ['a{3,2}', 'numbers out of order in {} quantifier'],
    ['a{65536}', 'number too big in {} quantifier'],
    ['a\\', '\\ at end of pattern'],
    ['(a)\\1', 'backreferences are not supported'],
    ['a++', 'possessive quantifiers are not supported'],
    ['(?>a)', 'unrecognized or unsupported character after (?'],
    ['(?R)', 'unrecognized or unsupported character after (?'],
    ['(?x)a', 'option (?x) is not supported'],
    ['(*FAIL)', '(*VERB) is not supported'],
    ['\\pL', '\\p is not supported'],
    ['\\K', '\\K is not supported'],
    ['((a{100}){100}){100}', 'regular expression is too large'],
    ['('.repeat(251) + ')'.repeat(251), 'parentheses are too deeply nested'],
    ['a'.repeat(PATTERN_LENGTH_MAX + 1), 'must not exceed 1024 characters'],
  ])('%s', (pattern, message) => {
    expect(refusal(pattern)).toBe(message);
  });

  it('tells where', () => {
    expect(() => new Pattern('ab[c')).toThrow(expect.objectContaining({ position: 2 }));
  });
});

describe('no pattern holds up the broker', () => {
  const name = `${'a'.repeat(254)}!`;
  it.each([
    '^(a+)+$',
    '^(a|a)*$',
    '(.*)*(.*)*(.*)*b',
    '^(.*a){12}$',
    '(x+x+)+y',
    '^(?=(a+)+$)(?=(.*)*b)',
    '^(?:(?!(?:.*){0,600}b).)*$',
  ])('%s', (pattern) => {
    const before = performance.now();
    expect(matches(pattern, name)).toBe(false);
    expect(performance.now() - before).toBeLessThan(2000);
  });

  it('nor does one that repeats nothing', () => {
    expect(matches('((){65535}){65535}', '')).toBe(true);
  });
});

describe('random patterns', () => {
  const atom = fc.constantFrom(
    'a',
    'b',
    '.',
    '[ab]',
    '[^a]',
    '\\w',
    '\\.',
    '^',
    '$',
    '\\b',
    '(?=a)',
    '(?!b)',
    '(?<=a)',
  );
  const { pattern } = fc.letrec<{ pattern: string }>((tie) => ({
    pattern: fc.oneof(
      { maxDepth: 3 },
      atom,
      fc.tuple(tie('pattern'), tie('pattern')).map(([a, b]) => `${a}${b}`),
      fc.tuple(tie('pattern'), tie('pattern')).map(([a, b]) => `(?:${a}|${b})`),
      fc.tuple(tie('pattern'), fc.constantFrom('*', '+', '?', '{0,2}', '{2}', '*?')).map(([a, q]) => `(?:${a})${q}`),
    ),
  }));
  const text = fc.string({ unit: fc.constantFrom('a', 'b', '.'), maxLength: 8 });

  it('match as the regular expressions of JavaScript do, where both mean the same', () => {
    fc.assert(
      fc.property(pattern, text, (source, subject) => {
        expect(matches(source, subject)).toBe(new RegExp(source).test(subject));
      }),
      runs(2000),
    );
  });

  it('made of garbage are read or refused, never anything else', () => {
    const garbage = fc.string({ unit: fc.constantFrom(...'ab(){}[]|*+?^$\\-,:!=<>#19dQEx '), maxLength: 20 });
    fc.assert(
      fc.property(garbage, text, (source, subject) => {
        if (refusal(source) === 'accepted') matches(source, subject);
      }),
      runs(3000),
    );
  });
});

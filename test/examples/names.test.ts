import { describe, expect, it } from 'vitest';
import { Flood } from '../../examples/toy-twitter/flood.ts';
import { FOLLOWING_MAX, Graph } from '../../examples/toy-twitter/graph.ts';
import { NAME_CHARS_MAX, Names, shorten } from '../../examples/toy-twitter/names.ts';
import { Resources } from '../../examples/toy-twitter/resources.ts';
import { andJoin } from '../../examples/toy-twitter/wording.ts';

describe('names', () => {
  const names = new Names('localhost');

  it.each([
    ['anna', 'anna', 'anna@localhost'],
    ['@Anna', 'anna', 'anna@localhost'],
    [' ANNA@Localhost/desk ', 'anna', 'anna@localhost'],
    ['xmpp:anna@localhost', 'anna', 'anna@localhost'],
    ['romeo@montague.net', 'romeo@montague.net', 'romeo@montague.net'],
    ['Romeo@Montague.NET/garden/wall', 'romeo@montague.net', 'romeo@montague.net'],
    ['max.w_2-x', 'max.w_2-x', 'max.w_2-x@localhost'],
    ['ÉLODIE', 'élodie', 'élodie@localhost'],
    ['Ａnna', 'anna', 'anna@localhost'],
    ['анна', 'анна', 'анна@localhost'],
    ['7', '7', '7@localhost'],
    ['太郎anna', '太郎anna', '太郎anna@localhost'],
    ['ที่นี่', 'ที่นี่', 'ที่นี่@localhost'],
    // Not a name that anybody can sign in with here, so the address is the name.
    ['a#b@localhost', 'a#b@localhost', 'a#b@localhost'],
    ['#irc%net@gate.example', '#irc%net@gate.example', '#irc%net@gate.example'],
  ])('%j is %j, on XMPP %s', (text, name, address) => {
    expect(names.read(text)).toBe(name);
    expect(names.address(name)).toBe(address);
    expect(names.read(address)).toBe(name);
  });

  it.each([
    [''],
    ['@'],
    ['   '],
    ['a b'],
    ['a..b'],
    ['-a'],
    ['a-'],
    ['.'],
    ['<script>'],
    ['a/b'],
    ['*'],
    ['#'],
    ['a*'],
    ['💥'],
    ['a\u0000b'],
    ['a\nb'],
    ['\u202eanna'],
    ['x'.repeat(NAME_CHARS_MAX + 1)],
    ['a@'],
    ['a@b c'],
    ['a@b@c'],
    ["o'neil@montague.net"],
    // As anna to the eye, and as nothing at all.
    ['anna\u034f'],
    ['anna\ufe0f'],
    ['\u3164'],
    ['\u115f\u1160'],
    ['anna\u034f@montague.net'],
    [`a${'\u0316'.repeat(4)}`],
    // Cyrillic а, Greek ο, Armenian օ among Latin letters.
    ['\u0430nna'],
    ['b\u03bfb'],
    ['b\u0585b'],
  ])('%j is none', (text) => {
    expect(() => names.read(text)).toThrowError(expect.objectContaining({ reason: 'bad-name' }));
    let said = '';
    try {
      names.read(text);
    } catch (error) {
      said = String(error);
    }
    expect(said.length).toBeLessThan(300);
  });

  it('are not as long as one likes', () => {
    const longest = `${'x'.repeat(190)}@y.example`;
    expect(names.read(longest)).toBe(longest);
    for (const text of [`x${longest}`, `${'#'.repeat(70)}@y.example`, 'x'.repeat(1_000_000)]) {
      expect(() => names.read(text)).toThrowError(expect.objectContaining({ reason: 'bad-name' }));
    }
  });

  it('are only those without an address to sign in with', () => {
    expect(names.readHome('Anna@localhost')).toBe('anna');
    expect(() => names.readHome('romeo@montague.net')).toThrowError(expect.objectContaining({ reason: 'bad-name' }));
  });

  it('are shown shortened where they are too long', () => {
    expect(shorten('🐇'.repeat(50))).toBe(`${'🐇'.repeat(40)}…`);
    expect(shorten(' a\n\tb ')).toBe('a b');
  });
});

describe('a flood', () => {
  it('is held back after so many, and let through again with time, each by himself', () => {
    let now = 0;
    const flood = new Flood(3, 1000, () => now);
    expect([1, 2, 3, 4, 5].map(() => flood.allows('anna'))).toEqual([true, true, true, false, false]);
    expect(flood.allows('ben')).toBe(true);
    now = 999;
    expect(flood.allows('anna')).toBe(false);
    now = 1000;
    expect([flood.allows('anna'), flood.allows('anna')]).toEqual([true, false]);
    now = 1_000_000;
    expect([1, 2, 3, 4].map(() => flood.allows('anna'))).toEqual([true, true, true, false]);
  });
});

describe('the resources of somebody', () => {
  it('are chosen by priority, the latest of equals, and never below zero', () => {
    const resources = new Resources();
    resources.set('a/1', 0);
    resources.set('a/2', 0);
    expect(resources.best?.address).toBe('a/2');
    resources.set('a/1', 0);
    expect(resources.best?.address).toBe('a/1');
    resources.set('a/3', 5);
    resources.set('a/4', 1);
    expect(resources.best).toEqual({ address: 'a/3', priority: 5 });
    for (const address of ['a/1', 'a/2', 'a/3', 'a/4']) resources.set(address, -1);
    expect(resources.best).toBeUndefined();
    expect(resources.isEmpty).toBe(false);
    resources.clear();
    expect(resources.isEmpty).toBe(true);
  });
});

describe('the graph', () => {
  it('is the same when the end of what happened is heard twice', () => {
    const deeds = [
      { kind: 'deed', deed: 'join', who: 'a' },
      { kind: 'deed', deed: 'join', who: 'b' },
      { kind: 'deed', deed: 'follow', who: 'a', whom: 'b' },
      { kind: 'deed', deed: 'contact', who: 'a', bot: 'r@x' },
      { kind: 'deed', deed: 'leave', who: 'a' },
      { kind: 'deed', deed: 'join', who: 'a' },
      { kind: 'deed', deed: 'follow', who: 'b', whom: 'a' },
      { kind: 'deed', deed: 'unfollow', who: 'b', whom: 'a' },
      { kind: 'deed', deed: 'follow', who: 'a', whom: 'b' },
    ] as const;
    const once = new Graph();
    for (const deed of deeds) once.apply(deed);
    expect(once.record).toEqual({ people: ['a', 'b'], follows: [['a', 'b']], left: [], contacts: [] });
    for (let from = 0; from < deeds.length; from += 1) {
      const twice = new Graph();
      for (const deed of [...deeds, ...deeds.slice(from)]) twice.apply(deed);
      expect(twice.record, `from ${from}`).toEqual(once.record);
    }
    expect(Graph.from(once.record).record).toEqual(once.record);
  });
});

it('one person follows so many and no more', () => {
  const graph = new Graph();
  for (let index = 0; index < FOLLOWING_MAX + 5; index += 1) {
    for (const deed of [
      { kind: 'deed', deed: 'join', who: `n${index}` },
      { kind: 'deed', deed: 'follow', who: 'eager', whom: `n${index}` },
    ] as const) {
      graph.apply(deed);
    }
  }
  expect(graph.following('eager')).toHaveLength(FOLLOWING_MAX);
  expect([graph.isFull('eager'), graph.isFull('n1'), graph.isFull('nobody')]).toEqual([true, false, false]);
});

it('names are listed as in a sentence', () => {
  expect([[], ['a'], ['a', 'b'], ['a', 'b', 'c']].map((names) => andJoin(names))).toEqual([
    '',
    'a',
    'a and b',
    'a, b and c',
  ]);
  expect(andJoin(['a', 'b', 'c', 'd'], 2)).toBe('a, b and 2 more');
  expect(andJoin(['a', 'b'], 2)).toBe('a and b');
});

import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { FieldTable, FieldValue } from '../../../broker/fields.ts';
import { HeadersMatcher } from '../../../broker/matchers/headers.ts';
import type { Bound } from '../../../broker/matchers/matcher.ts';
import { headersMatch } from '../../support/naive-matchers.ts';
import { runs } from '../../support/runs.ts';

const bind = (args: FieldTable): Bound => ({ bindingKey: '', arguments: args });

function matched(matcher: HeadersMatcher<Bound>, headers: FieldTable): Bound[] {
  const found: Bound[] = [];
  matcher.match('any key', headers, found);
  return found;
}

function wants(args: FieldTable, headers: FieldTable): boolean {
  const matcher = new HeadersMatcher<Bound>();
  matcher.add(bind(args));
  return matched(matcher, headers).length === 1;
}

describe('headers matcher', () => {
  const value: fc.Arbitrary<FieldValue> = fc.constantFrom<FieldValue>(null, 1, 1n, 2, 'one', 'two', true);
  const name = fc.constantFrom('a', 'b', 'x-c', 'x-d', 'x');
  const table = fc.dictionary(name, value, { maxKeys: 4 });
  const mode = fc.constantFrom(undefined, 'all', 'any', 'all-with-x', 'any-with-x');
  const args = fc.tuple(mode, table).map(([mode, rest]) => (mode === undefined ? rest : { 'x-match': mode, ...rest }));

  it('finds what a naive matcher finds, each binding once, while bindings come and go', () => {
    const step = fc.oneof(fc.record({ add: args }), fc.record({ remove: fc.nat() }), fc.record({ match: table }));
    fc.assert(
      fc.property(fc.array(step, { maxLength: 30 }), (steps) => {
        const matcher = new HeadersMatcher<Bound>();
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
            const wanted = bindings.filter((binding) => headersMatch(binding.arguments, one.match));
            expect(found.length).toBe(wanted.length);
            expect(new Set(found)).toEqual(new Set(wanted));
          }
        }
      }),
      runs(500),
    );
  });

  it.each<[string, FieldTable, FieldTable, boolean]>([
    ['no condition is met by everything', {}, {}, true],
    ['not even one of no conditions is met', { 'x-match': 'any' }, { a: 1 }, false],
    ['all leaves out headers in x-', { 'x-c': 1, a: 1 }, { a: 1 }, true],
    ['any leaves them out too', { 'x-match': 'any', 'x-c': 1 }, { 'x-c': 1 }, false],
    ['all-with-x takes them in', { 'x-match': 'all-with-x', 'x-c': 1, a: 1 }, { a: 1 }, false],
    ['any-with-x takes them in', { 'x-match': 'any-with-x', 'x-c': 1 }, { 'x-c': 1 }, true],
    ['void asks for presence only', { a: null }, { a: 'whatever' }, true],
    ['void is not met by absence', { a: null }, { b: 1 }, false],
    ['integers are equal whatever their width', { a: 1n }, { a: 1 }, true],
    ['a number is not its digits', { a: 1 }, { a: '1' }, false],
    ['tables are compared by content', { a: { b: [1, 'x'] } }, { a: { b: [1n, 'x'] } }, true],
    ['octets are compared by content', { a: new Uint8Array([1, 2]) }, { a: new Uint8Array([1, 2]) }, true],
    ['times are compared by content', { a: new Date(5000) }, { a: new Date(5000) }, true],
    ['what every object has is no header', { toString: null }, {}, false],
    ['what every object has is no header to an any', { 'x-match': 'any', constructor: null }, {}, false],
  ])('%s', (_rule, asked, headers, answer) => {
    expect(wants(asked, headers)).toBe(answer);
  });

  it.each(['sometimes', 1, true, ''])('refuses the x-match %j', (mode) => {
    expect(() => new HeadersMatcher<Bound>().add(bind({ 'x-match': mode }))).toThrow(
      expect.objectContaining({ kind: 'precondition-failed', message: expect.stringContaining('Invalid x-match') }),
    );
  });
});

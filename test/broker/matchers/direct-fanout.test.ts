import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { EMPTY_TABLE } from '../../../broker/fields.ts';
import { DirectMatcher } from '../../../broker/matchers/direct.ts';
import { FanoutMatcher } from '../../../broker/matchers/fanout.ts';
import type { Bound, Matcher } from '../../../broker/matchers/matcher.ts';
import { TopicMatcher } from '../../../broker/matchers/topic.ts';
import { runs } from '../../support/runs.ts';

const bind = (bindingKey: string): Bound => ({ bindingKey, arguments: EMPTY_TABLE });

function matched(matcher: Matcher<Bound>, routingKey: string): Bound[] {
  const found: Bound[] = [];
  matcher.match(routingKey, EMPTY_TABLE, found);
  return found;
}

describe.each([
  ['direct', () => new DirectMatcher<Bound>(), (bindingKey: string, key: string) => bindingKey === key],
  ['fanout', () => new FanoutMatcher<Bound>(), () => true],
] as const)('%s matcher', (_name, make, wants) => {
  it('finds each binding that wants the key once, while bindings come and go', () => {
    const key = fc.constantFrom('', 'a', 'b', '__proto__', '#');
    const step = fc.oneof(fc.record({ add: key }), fc.record({ remove: fc.nat() }), fc.record({ match: key }));
    fc.assert(
      fc.property(fc.array(step, { maxLength: 30 }), (steps) => {
        const matcher = make();
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
            expect(found.length).toBe(new Set(found).size);
            expect(new Set(found)).toEqual(new Set(bindings.filter(({ bindingKey }) => wants(bindingKey, one.match))));
          }
        }
      }),
      runs(200),
    );
  });
});

describe.each([
  ['direct', () => new DirectMatcher<Bound>()],
  ['fanout', () => new FanoutMatcher<Bound>()],
  ['topic', () => new TopicMatcher<Bound>()],
] as const)('%s matcher', (_name, make) => {
  it('bears more bindings under one key than a call can have arguments', () => {
    const matcher = make();
    for (let count = 0; count < 150_000; count++) matcher.add(bind('a'));
    expect(matched(matcher, 'a')).toHaveLength(150_000);
  });
});

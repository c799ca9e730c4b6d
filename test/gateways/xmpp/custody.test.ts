/** Who has what was sent through another server: what answers, bounces, silence and goodbyes mean. */
import { beforeEach, describe, expect, it } from 'vitest';
import { ANSWER_MS, Custody, RECEIVERS_MAX } from '../../../gateways/xmpp/custody.ts';
import { type Element, element } from '../../../gateways/xmpp/element.ts';
import { CLIENT, STANZA_CONDITIONS } from '../../../gateways/xmpp/namespaces.ts';
import { ManualClock } from '../../support/manual-clock.ts';

const DESK = 'romeo@montague.net/desk';
const FROM = 'logs@broker.example/k';

let clock: ManualClock;
let said: Element[];
let became: string[];
let custody: Custody;
beforeEach(() => {
  clock = new ManualClock();
  said = [];
  became = [];
  custody = new Custody({
    domain: 'broker.example',
    clock,
    say: (stanza) => void said.push(stanza),
    onUnreachable: (address) => void became.push(`${address} unreachable`),
  });
});

/** Sends messages with these ids, and lets the turn end. */
async function send(ids: readonly string[], to = DESK): Promise<void> {
  for (const id of ids) {
    const settlement = {
      delivered: () => void became.push(`${id} delivered`),
      returned: () => void became.push(`${id} returned`),
    };
    custody.send(element('message', CLIENT, { from: FROM, to, id }), settlement);
  }
  await new Promise((resolve) => setImmediate(resolve));
}

/** The question said last. */
function asked(): Element {
  const last = said.filter(({ name }) => name === 'iq').at(-1);
  if (last === undefined) throw new Error('nothing asked');
  return last;
}

function answer({ attributes: { id, from, to } } = asked(), condition?: string): boolean {
  const error = condition && element('error', CLIENT, {}, element(condition, STANZA_CONDITIONS));
  return custody.onIq(
    element('iq', CLIENT, { type: error ? 'error' : 'result', id, from: to, to: from }, error || undefined),
  );
}

describe('an answer', () => {
  it('is asked once for what is said in a turn, as whom it was said, and settles what was before the question', async () => {
    await send(['1', '2']);
    expect(said.map(({ name }) => name)).toEqual(['message', 'message', 'iq']);
    expect(asked().attributes).toMatchObject({ type: 'get', from: FROM, to: DESK });
    const first = asked();
    await send(['3']);
    expect(said).toHaveLength(4);
    answer(first);
    expect(became).toEqual(['1 delivered', '2 delivered']);
    await new Promise((resolve) => setImmediate(resolve));
    expect(asked()).not.toBe(first);
    answer();
    expect(became.at(-1)).toBe('3 delivered');
    expect(clock.timerCount).toBe(0);
  });

  it('counts once', async () => {
    await send(['1']);
    expect(answer()).toBe(true);
    expect(answer()).toBe(false);
    expect(became).toEqual(['1 delivered']);
  });

  it.each(['service-unavailable', 'feature-not-implemented', 'not-allowed'])(
    'is one, though it says %s',
    async (condition) => {
      await send(['1']);
      answer(asked(), condition);
      expect(became).toEqual(['1 delivered']);
    },
  );

  it.each(['remote-server-timeout', 'remote-server-not-found', 'recipient-unavailable', 'gone'])(
    'that says %s is none',
    async (condition) => {
      await send(['1', '2']);
      answer(asked(), condition);
      expect(became).toEqual(['1 returned', '2 returned', `${DESK} unreachable`]);
    },
  );
});

describe('what comes back', () => {
  it('is returned, and the rest settled by the answer behind it', async () => {
    await send(['1', '2', '3']);
    expect(custody.onBounce('2', DESK)).toBe(true);
    expect(custody.onBounce('2', DESK)).toBe(false);
    expect(custody.onBounce('1', 'mallory@else.example/x')).toBe(false);
    const question = asked();
    await send(['4']);
    answer(question);
    expect(became).toEqual(['2 returned', '1 delivered', '3 delivered']);
    expect(custody.onBounce('4', DESK)).toBe(true);
    expect(became.at(-1)).toBe('4 returned');
    expect(custody.onBounce('3', DESK)).toBe(false);
  });

  it('by a goodbye of one resource, or of all', async () => {
    await send(['1', '2']);
    await send(['3'], 'romeo@montague.net/phone');
    await send(['4'], 'juliet@capulet.com/x');
    custody.onGone('romeo@montague.net/tablet');
    expect(became).toEqual([]);
    custody.onGone(DESK);
    expect(became).toEqual(['1 returned', '2 returned']);
    custody.onGone('romeo@montague.net');
    expect(became.at(-1)).toBe('3 returned');
    custody.giveUp();
    expect(became.at(-1)).toBe('4 returned');
    expect(clock.timerCount).toBe(0);
  });
});

describe('silence', () => {
  it('of one who has never answered: his server is asked, and believed', async () => {
    await send(['1']);
    clock.advance(ANSWER_MS - 1);
    expect(asked().attributes.to).toBe(DESK);
    clock.advance(1);
    const question = asked();
    expect(question.attributes).toMatchObject({ from: 'broker.example', to: 'broker.example' });
    expect(became).toEqual([]);
    expect(custody.onIq(question)).toBe(true);
    expect(became).toEqual(['1 delivered']);
    await send(['2']);
    expect(asked().attributes.to).toBe('broker.example');
    answer(asked(), 'service-unavailable');
    expect(became.at(-1)).toBe('2 delivered');
    // When he comes again he is asked again.
    custody.onGone(DESK);
    await send(['3']);
    expect(asked().attributes.to).toBe(DESK);
  });

  it('of one who has answered before: he is asked again, and nothing is forgotten', async () => {
    await send(['1']);
    answer();
    await send(['2']);
    for (let times = 0; times < 5; times += 1) {
      clock.advance(ANSWER_MS);
      expect(asked().attributes.to).toBe(DESK);
    }
    expect(said.filter(({ name }) => name === 'iq')).toHaveLength(7);
    expect(became).toEqual(['1 delivered']);
    answer();
    expect(became.at(-1)).toBe('2 delivered');
  });
});

it('remembers no more receivers than it can bear, and none less that has something on its way', async () => {
  await send(['first'], 'first@montague.net/x');
  for (let index = 0; index <= RECEIVERS_MAX; index += 1) {
    custody.send(element('message', CLIENT, { from: FROM, to: `u${index}@montague.net/x`, id: 'm' }), {
      delivered() {},
      returned() {},
    });
    custody.onBounce('m', `u${index}@montague.net/x`);
  }
  custody.onGone('first@montague.net/x');
  expect(became).toEqual(['first returned']);
});

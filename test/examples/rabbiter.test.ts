/** Rabbiter on Warren's own client port, with @xmpp/client; test/slow/toy-twitter/ has it in ejabberd and Prosody. */
import { describe, expect, it } from 'vitest';
import { Graph } from '../../examples/toy-twitter/graph.ts';
import { LINES_AT_ONCE } from '../../examples/toy-twitter/rabbiter.ts';
import { answerCommand, NAMED_MAX, readLine } from '../../examples/toy-twitter/rabbiter-commands.ts';
import { xml } from '../gateways/xmpp/scene.ts';
import { eventually } from '../support/eventually.ts';
import { type Chatter, consumers, usePlace } from './toy-twitter-place.ts';

const place = usePlace({ readersMax: 4 });
const BOT = 'rabbiter@broker.localhost';

async function gone(name: string): Promise<void> {
  await eventually(async () => expect(await consumers(place.amqp, name)).toBe(0));
}

function presenceTypes(chatter: Chatter): (string | undefined)[] {
  return chatter.stanzas
    .filter(({ name, attrs }) => name === 'presence' && attrs.from === BOT)
    .map(({ attrs }) => attrs.type);
}

describe('adding it to the contacts', () => {
  it('makes an exchange and an inbox, and brings a welcome', async () => {
    const anna = await place.rabbit('anna');
    await eventually(() =>
      expect(anna.texts).toEqual([expect.stringMatching(/^Hello, anna@localhost\. .*Write help/)]),
    );
    expect([...new Set(presenceTypes(anna))]).toEqual(['subscribed', undefined]);
    const channel = await place.amqp.createChannel();
    await channel.checkExchange('twitter.user.anna');
    await channel.checkQueue('twitter.inbox.anna');
    await channel.close();
  });

  it('once more brings none', async () => {
    const anna = await place.rabbit('anna');
    await anna.presence({ type: 'subscribe', to: BOT });
    expect(await anna.ask('*followers')).toBe('Nobody is following you at the moment.');
    expect(anna.texts).toHaveLength(1);
  });

  it('ends with removing it, and is another welcome later', async () => {
    const berta = await place.rabbit('berta');
    const anna = await place.rabbit('anna');
    await anna.ask('*follow berta@localhost');
    await berta.presence({ type: 'unsubscribe', to: BOT });
    await eventually(async () => expect(await consumers(place.amqp, 'berta')).toBe(-1));
    const channel = await place.amqp.createChannel();
    channel.on('error', () => {});
    await expect(channel.checkExchange('twitter.user.berta')).rejects.toMatchObject({ code: 404 });
    expect(await anna.ask('*following')).toBe('You are following nobody at the moment.');
    await berta.presence({ type: 'subscribe', to: BOT });
    await eventually(() => expect(berta.texts.at(-1)).toMatch(/^Welcome back, berta@localhost\. .*forgotten/));
  });

  it('must be finished before anything can be followed or said', async () => {
    const carla = await place.chatter('carla');
    await carla.presence();
    for (const line of ['*follow anna@localhost', 'hello']) {
      expect(await carla.ask(line)).toMatch(/^We are not through with getting to know each other/);
    }
    expect(await carla.ask('help')).toMatch(/^What you write to me/);
    // It has asked again; to say yes is enough.
    await eventually(() => expect(presenceTypes(carla)).toContain('subscribe'));
    await carla.presence({ type: 'subscribed', to: BOT });
    await eventually(() => expect(carla.texts.at(-1)).toMatch(/^Hello, carla@localhost/));
    expect(await carla.ask('*followers')).toBe('Nobody is following you at the moment.');
  });
});

describe('posts', () => {
  it('go to followers, in the words of the original', async () => {
    const [dora, emil] = [await place.rabbit('dora'), await place.rabbit('emil')];
    expect(await emil.ask('*follow dora@localhost')).toBe('You are now following dora@localhost.');
    await eventually(() => expect(dora.texts.at(-1)).toBe('emil@localhost decided to follow you.'));
    expect(await dora.ask('*follow dora')).toBe('You are now following yourself: what you say comes back to you.');
    for (const line of ['good <b>morning</b> & all', '/me waves', '/meow', ' *follow', '*say help', ' help'])
      await dora.say(line);
    const said = ['good <b>morning</b> & all', undefined, '/meow', '*follow', 'help', 'help'];
    const as = (who: string) =>
      said.map((text) => (text === undefined ? 'dora@localhost waves' : `from ${who}: ${text}`));
    await eventually(() => expect(emil.texts.slice(-6)).toEqual(as('dora@localhost')));
    await eventually(() => expect(dora.texts.slice(-6)).toEqual(as('you')));
    expect(await emil.ask('*unfollow dora')).toBe('You are no longer following dora@localhost.');
    await eventually(() => expect(dora.texts.at(-1)).toBe('emil@localhost decided to stop following you.'));
  });

  it('wait for whoever is away, and say since when', async () => {
    const [fred, gina] = [await place.rabbit('fred'), await place.rabbit('gina')];
    await gina.ask('*follow fred');
    await gina.stop();
    await gone('gina');
    await fred.say('one');
    await fred.say('two');
    const old = { contentType: 'text/plain', timestamp: 1_700_000_000 };
    const channel = await place.amqp.createConfirmChannel();
    await eventually(async () => expect((await channel.checkQueue('twitter.inbox.gina')).messageCount).toBe(2));
    channel.publish('twitter.user.fred', 'say', Buffer.from('long ago'), old);
    await channel.waitForConfirms();
    const again = await place.rabbit('gina');
    const expected = ['one', 'two', 'long ago'].map((text) => `from fred@localhost: ${text}`);
    await eventually(() => expect(again.texts).toEqual(expected));
    const [last] = again.stanzas.filter((stanza) => stanza.toString().includes('long ago'));
    const delay = last?.getChild('delay', 'urn:xmpp:delay');
    expect(delay?.attrs.stamp).toBe('2023-11-14T22:13:20.000Z');
    await channel.close();
  });

  it('go to the resource with the highest priority, and to none below zero', async () => {
    const hans = await place.rabbit('hans');
    const [desk, phone] = [await place.rabbit('ida', 'desk'), await place.chatter('ida', 'phone')];
    await desk.ask('*follow hans');
    await phone.presence({}, xml('priority', {}, '5'));
    await eventually(() => expect(phone.stanzas.some(({ attrs }) => attrs.from === BOT)).toBe(true));
    await hans.say('to the phone');
    await eventually(() => expect(phone.texts).toEqual(['from hans@localhost: to the phone']));
    await phone.presence({}, xml('priority', {}, '-1'));
    await desk.presence({}, xml('priority', {}, '1'));
    await phone.client.iqCaller.request(xml('iq', { type: 'get', to: BOT }, xml('ping', 'urn:xmpp:ping')));
    await desk.client.iqCaller.request(xml('iq', { type: 'get', to: BOT }, xml('ping', 'urn:xmpp:ping')));
    expect(await desk.ask('*following')).toBe('You are following hans@localhost.');
    await hans.say('to the desk');
    await eventually(() => expect(desk.texts.at(-1)).toBe('from hans@localhost: to the desk'));
    await desk.stop();
    await gone('ida');
    await hans.say('to nobody');
    const back = await place.rabbit('ida', 'desk');
    // What he has not acknowledged in time comes again.
    await eventually(() => expect(back.texts.at(-1)).toBe('from hans@localhost: to nobody'));
  });

  it('cross between doors, under the same names', async () => {
    const jana = await place.rabbit('jana');
    const { twitter } = place.server;
    await twitter.join('karl');
    await twitter.follow('karl', 'jana');
    await eventually(() => expect(jana.texts.at(-1)).toBe('karl@localhost decided to follow you.'));
    expect(await jana.ask('*follow karl@localhost')).toBe('You are now following karl@localhost.');
    await twitter.post('karl', 'from a web page');
    await eventually(() => expect(jana.texts.at(-1)).toBe('from karl@localhost: from a web page'));
    const channel = await place.amqp.createChannel();
    const { queue } = await channel.assertQueue('', { exclusive: true });
    for (const name of ['jana', 'karl']) await channel.bindQueue(queue, `twitter.user.${name}`, 'say');
    const heard: string[] = [];
    await channel.consume(queue, (message) => message && heard.push(`${message.fields.exchange} ${message.content}`));
    await jana.say('from a chat');
    await eventually(() => expect(heard).toHaveLength(1));
    await twitter.post('karl', 'and back');
    await eventually(() => expect(heard).toEqual(['twitter.user.jana from a chat', 'twitter.user.karl and back']));
    await channel.close();
  });
});

describe('commands', () => {
  it('list who follows whom, find people, and invite others', async () => {
    const [lena, max] = [await place.rabbit('lena'), await place.rabbit('max')];
    await place.rabbit('maximilian');
    await lena.ask('*FOLLOW max@localhost');
    await lena.ask('*follow maximilian');
    expect(await lena.ask('*following')).toBe('You are following max@localhost and maximilian@localhost.');
    expect(await max.ask('*following lena@localhost')).toBe(
      'lena@localhost is following max@localhost and maximilian@localhost.',
    );
    expect(await max.ask('*followers')).toBe('You are followed by lena@localhost.');
    expect(await lena.ask('*followers max')).toBe('max@localhost is followed by lena@localhost.');
    expect(await lena.ask('*followers lena')).toBe('Nobody is following you at the moment.');
    expect(await lena.ask('*whois MAX')).toBe(
      'max@localhost follows 0, followed by 1\nmaximilian@localhost follows 0, followed by 1',
    );
    expect(await lena.ask('*whois nobody')).toMatch(/^Nobody here has/);
    expect(await lena.ask('*invite max')).toBe('max@localhost is here already. You could *follow them.');
    const nina = await place.chatter('nina');
    await place.server.twitter.leave('nina');
    await nina.presence();
    expect(await lena.ask('*invite nina@localhost')).toBe('I have sent nina@localhost an invitation.');
    await eventually(() => expect(presenceTypes(nina)).toContain('subscribe'));
    await nina.presence({ type: 'subscribed', to: BOT });
    await eventually(() => expect(nina.texts.at(-1)).toMatch(/^Welcome back, nina@localhost/));
  });

  const LINES: readonly (readonly [line: string, answer: RegExp])[] = [
    ['help', /^What you write to me .*\*help, \*follow, .* and \*whois\./],
    ['*help', /^What you write to me/],
    ['*help follow', /^\*follow JID/],
    ['*help *whois', /^\*whois TEXT/],
    ['*help constructor', /^There is no \*constructor\. There are/],
    ['*follow', /^\*follow JID/],
    ['*follow a b', /^\*follow JID/],
    ['*follow nobody@localhost', /^I do not know nobody@localhost\. You could \*invite them\.$/],
    ['*follow nobody', /^I do not know nobody@localhost/],
    ['*follow @', /There is no name|is no XMPP address/],
    ['*follow a"b@localhost', /is no XMPP address/],
    ['*follow <script>', /cannot be a name here/],
    [`*follow ${'x'.repeat(5000)}`, /^“x{40}…” cannot be a name here/],
    ['*unfollow nobody', /^You were not following nobody@localhost/],
    ['*invite romeo@montague.net', /^I know no way to romeo@montague\.net from here\.$/],
    ['*frobnicate', /^I do not know how to \*frobnicate\. There are \*help,/],
    ['* is a star', /^I do not know how to \*\. There are/],
    ['*say  ', /nothing in that to say/],
    ['x'.repeat(501), /^That is 501 characters long/],
  ];

  it('answer politely whatever is asked', async () => {
    const olaf = await place.rabbit('olaf');
    await eventually(() => expect(olaf.texts).toHaveLength(1));
    for (const [line, answer] of LINES) expect(await olaf.ask(line), line).toMatch(answer);
  });

  it('name so many people and no more', async () => {
    const graph = new Graph();
    const fans = Array.from({ length: NAMED_MAX + 5 }, (_, index) => `fan${index}`);
    for (const who of fans) graph.apply({ kind: 'deed', deed: 'follow', who, whom: 'star' });
    const { twitter, names } = place.server;
    const scene = { me: 'star', twitter, names, graph, invite: () => false };
    const answer = await answerCommand({ command: 'followers', argument: '' }, scene);
    expect(answer).toMatch(/^You are followed by fan0@localhost, .* and 5 more\.$/);
    expect(answer?.match(/@/g)).toHaveLength(NAMED_MAX);
  });

  it('slows down a flood, says so once, and loses nobody else', async () => {
    const [paul, rosa] = [await place.rabbit('paul'), await place.rabbit('rosa')];
    await rosa.ask('*follow paul');
    for (let index = 0; index < LINES_AT_ONCE + 40; index += 1) await paul.say(`n${index}`);
    await eventually(() =>
      expect(rosa.texts.filter((text) => text.includes(': n')).length).toBeGreaterThanOrEqual(LINES_AT_ONCE),
    );
    await eventually(() => expect(paul.texts.at(-1)).toMatch(/^Not so fast/));
    expect(paul.texts.filter((text) => text.startsWith('Not so fast'))).toHaveLength(1);
    expect(rosa.texts.filter((text) => text.includes(': n')).length).toBeLessThan(LINES_AT_ONCE + 10);
    expect(await rosa.ask('*following')).toBe('You are following paul@localhost.');
  });

  it('is a bot when it is asked what it is, and nothing else', async () => {
    const sara = await place.rabbit('sara');
    const disco = (to: string) =>
      sara.client.iqCaller.request(
        xml('iq', { type: 'get', to }, xml('query', 'http://jabber.org/protocol/disco#info')),
      );
    expect(String(await disco(BOT))).toContain('category="client" type="bot" name="Rabbiter"');
    const strange = xml('iq', { type: 'get', to: BOT }, xml('query', 'urn:of:somebody'));
    await expect(sara.client.iqCaller.request(strange)).rejects.toThrow('service-unavailable');
    await sara.client.send(xml('message', { type: 'groupchat', to: BOT }, xml('body', {}, 'x')));
    await sara.client.send(xml('message', { type: 'chat', to: BOT }));
    await sara.client.send(xml('presence', { type: 'nonsense', to: BOT }));
    expect(await sara.ask('*followers')).toBe('Nobody is following you at the moment.');
  });
});

it('reads to so many at a time, and says so to others', async () => {
  const first = await Promise.all(['tom', 'uwe', 'vera', 'xaver'].map((name) => place.rabbit(name)));
  const wanda = await place.chatter('wanda');
  await wanda.presence();
  await wanda.presence({ type: 'subscribe', to: BOT });
  await eventually(() => expect(wanda.texts).toContainEqual(expect.stringMatching(/^Too many are here/)));
  expect(await consumers(place.amqp, 'wanda')).toBe(0);
  expect(await wanda.ask('*following')).toBe('You are following nobody at the moment.');
  await first[0]?.stop();
  await gone('tom');
  await wanda.presence();
  await eventually(async () => expect(await consumers(place.amqp, 'wanda')).toBe(1));
});

it('takes lines apart', () => {
  expect(['help', 'HELP ', ' help', '*', '*Say  a b ', '**x', 'a*b', '*say two\nlines'].map(readLine)).toEqual([
    { command: 'help', argument: '' },
    { command: 'help', argument: '' },
    { command: 'say', argument: ' help' },
    { command: '', argument: '' },
    { command: 'say', argument: 'a b ' },
    { command: '*x', argument: '' },
    { command: 'say', argument: 'a*b' },
    { command: 'say', argument: 'two\nlines' },
  ]);
});

it('has complained of nothing', () => {
  expect(place.complaints).toEqual([]);
});

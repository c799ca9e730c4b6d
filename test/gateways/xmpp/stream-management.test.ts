/** XEP-0198 and custody: what the client has not acknowledged is the queue's still. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createMessage } from '../../../broker/message.ts';
import { element } from '../../../gateways/xmpp/element.ts';
import { parseJid } from '../../../gateways/xmpp/jid.ts';
import { CLIENT } from '../../../gateways/xmpp/namespaces.ts';
import { UNSETTLED_BYTES_MAX } from '../../../gateways/xmpp/pace.ts';
import { Session, UNACKNOWLEDGED_WEIGHT_MAX } from '../../../gateways/xmpp/session.ts';
import type { StreamError } from '../../../gateways/xmpp/stream-error.ts';
import { Handled, OverAcknowledged, Unacknowledged } from '../../../gateways/xmpp/stream-management.ts';
import { eventually } from '../../support/eventually.ts';
import { type RawClient, useXmpp } from './scene.ts';

const scene = useXmpp({ xmpp: { resumeMs: 60_000 } });
const short = useXmpp({ xmpp: { resumeMs: 50 } });

const SM = "xmlns='urn:xmpp:sm:3'";

/** Another one for each test: contacts of the one before may still be on their way out. */
let logs = 'logs0';
beforeEach(async () => {
  logs = `logs${Number(logs.slice(4)) + 1}`;
  for (const one of [scene, short]) await one.channel.declareExchange({ exchange: logs, type: 'fanout' });
});
afterEach(async () => {
  for (const one of [scene, short]) {
    await one.channel.deleteExchange(logs);
    await one.channel.deleteQueue('guest@localhost');
  }
});

async function ready(one: typeof scene, resource: string, resume = true): Promise<{ raw: RawClient; id: string }> {
  const raw = await one.login(resource);
  raw.say(`<enable ${SM}${resume ? " resume='true'" : ''}/>`);
  const enabled = await raw.until(/<enabled[^>]*\/>/);
  raw.say('<presence/>');
  await raw.until('<presence');
  return { raw, id: /id="([^"]*)"/.exec(enabled)?.[1] ?? '' };
}

async function follow(raw: RawClient): Promise<void> {
  raw.say(`<presence type='subscribe' to='${logs}@broker.localhost'/>`);
  await raw.until('type="subscribed"');
  await raw.until(/<presence (?![^>]*type)[^>]*\/>/);
}

async function counts(one: typeof scene): Promise<[number | undefined, number | undefined]> {
  const view = (await one.broker.snapshot('/')).queues.find(({ name }) => name === 'guest@localhost');
  return [view?.messagesReady, view?.messagesUnacked];
}

/** Stanzas that the client has been sent since it enabled stream management: to be counted by hand. */
function stanzas(text: string): number {
  return [...text.matchAll(/<(message|presence|iq)[ >]/g)].length;
}

describe('acknowledgement', () => {
  it('settles deliveries as far as it goes; the rest returns, in order, when the stream dies', async () => {
    const { raw } = await ready(short, 'desk', false);
    await follow(raw);
    await raw.settled();
    // Own presence, subscribed, available, ping.
    for (const body of ['a', 'b', 'c', 'd']) short.publish(logs, '', body);
    expect(stanzas(await raw.until('<body>d<'))).toBe(4);
    await eventually(async () => expect(await counts(short)).toEqual([0, 4]));
    raw.say(`<a ${SM} h='6'/>`);
    await eventually(async () => expect(await counts(short)).toEqual([0, 2]));
    raw.socket.destroy();
    await eventually(async () => expect(await counts(short)).toEqual([2, 0]));
    const again = await ready(short, 'desk');
    await again.raw.until('<body>d<');
    expect(again.raw.heard).not.toContain('<body>');
  });

  it('of the client: counts a message when the broker has it', async () => {
    const { raw } = await ready(scene, 'desk');
    raw.say(
      `<message to='${logs}@broker.localhost'><body>x</body></message><message to='nothing@broker.localhost'><body>y</body></message>`,
    );
    await raw.until('item-not-found');
    raw.say(`<r ${SM}/>`);
    // Its presence was the first.
    await raw.until('<a xmlns="urn:xmpp:sm:3" h="3"/>');
  });
});

describe('resumption', () => {
  it('says again what was not acknowledged, once, before anything new', async () => {
    const { raw, id } = await ready(scene, 'desk');
    await follow(raw);
    await raw.settled();
    scene.publish(logs, '', 'one');
    scene.publish(logs, '', 'two');
    await raw.until('<body>two<');
    raw.socket.destroy();
    await eventually(() => expect(raw.closed).toBe(true));
    scene.publish(logs, '', 'three');
    const back = await scene.raw();
    await back.login('guest', 'guest');
    back.say(`<resume ${SM} previd='${id}' h='5'/>`);
    await back.until(`<resumed xmlns="urn:xmpp:sm:3" previd="${id}" h="3"/>`);
    scene.publish(logs, '', 'four');
    await back.until(/<body>two<.*<body>three<.*<body>four</s);
    expect(back.heard).not.toContain('one');
    back.say(`<a ${SM} h='8'/>`);
    await eventually(async () => expect(await counts(scene)).toEqual([0, 0]));
  });

  it('takes the session from a stream that nobody knew was dead', async () => {
    const { raw, id } = await ready(scene, 'desk');
    const back = await scene.raw();
    await back.login('guest', 'guest');
    back.say(`<resume ${SM} previd='${id}' h='1'/>`);
    await back.until('<resumed');
    expect(await raw.ended()).toContain('<conflict');
    await back.settled();
  });

  it('waits for what is in hand, so that the client does not say it again', async () => {
    let letGo = (): void => {};
    const slow = new Promise<void>((resolve) => {
      letGo = resolve;
    });
    const end = scene.door.register('slow@localhost', { onStanza: () => slow });
    const { raw, id } = await ready(scene, 'desk');
    raw.say("<message to='slow@localhost'><body>once</body></message>");
    raw.say(`<r ${SM}/>`);
    // Its presence is done, the message is not.
    await raw.until('<a xmlns="urn:xmpp:sm:3" h="1"/>');
    const back = await scene.raw();
    await back.login('guest', 'guest');
    back.say(`<resume ${SM} previd='${id}' h='1'/>`);
    expect(await raw.ended()).toContain('<conflict');
    expect(back.heard).not.toContain('resumed');
    letGo();
    await back.until(`<resumed xmlns="urn:xmpp:sm:3" previd="${id}" h="2"/>`);
    end();
  });

  it('with a count that cannot be ends the stream, not the session', async () => {
    const { raw, id } = await ready(scene, 'desk');
    raw.socket.destroy();
    for (const h of ['7', '4294967295']) {
      const wrong = await scene.raw();
      await wrong.login('guest', 'guest');
      wrong.say(`<resume ${SM} previd='${id}' h='${h}'/>`);
      expect(await wrong.ended()).toContain(`<handled-count-too-high xmlns="urn:xmpp:sm:3" h="${h}" send-count="1"/>`);
    }
    const back = await scene.raw();
    await back.login('guest', 'guest');
    back.say(`<resume ${SM} previd='${id}' h='1'/>`);
    await back.until('<resumed');
  });

  it('comes too late: the resource is gone, and what it held is in the queue', async () => {
    const { raw, id } = await ready(short, 'desk');
    await follow(raw);
    short.publish(logs, '', 'one');
    await raw.until('<body>one<');
    raw.socket.destroy();
    await eventually(async () => expect(await counts(short)).toEqual([1, 0]));
    const back = await short.raw();
    await back.login('guest', 'guest');
    back.say(`<resume ${SM} previd='${id}' h='0'/>`);
    await back.until(/<failed[^>]*><item-not-found/);
    back.say("<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>");
    await back.until('</bind></iq>');
  });

  it('is not for somebody else', async () => {
    const { id } = await ready(scene, 'desk');
    const thief = await scene.raw();
    await thief.login('anna', 'secret');
    thief.say(`<resume ${SM} previd='${id}' h='0'/>`);
    await thief.until(/<failed[^>]*><item-not-found/);
  });

  it('is over with a goodbye', async () => {
    const { raw, id } = await ready(scene, 'desk');
    raw.say('</stream:stream>');
    await raw.ended();
    const back = await scene.raw();
    await back.login('guest', 'guest');
    back.say(`<resume ${SM} previd='${id}' h='0'/>`);
    await back.until('<failed');
  });

  it('keeps no more for who is away than a queue hands out unacked', async () => {
    const { raw } = await ready(scene, 'desk');
    await follow(raw);
    raw.socket.destroy();
    for (let index = 0; index < 150; index += 1) {
      scene.channel.publish(createMessage({ exchange: logs, body: `${index}` }));
    }
    await eventually(async () => expect(await counts(scene)).toEqual([50, 100]));
  });

  it('nor more octets than are bearable', async () => {
    const { raw } = await ready(scene, 'desk');
    await follow(raw);
    raw.socket.destroy();
    const body = 'x'.repeat(200_000);
    for (let index = 0; index < 40; index += 1) scene.channel.publish(createMessage({ exchange: logs, body }));
    await eventually(async () => {
      const [ready = 0, unacked = 0] = await counts(scene);
      expect(ready + unacked).toBe(40);
      expect(unacked * body.length).toBeLessThan(UNSETTLED_BYTES_MAX + body.length);
    });
    // And all of them come when he is back.
    const later = await scene.login('desk');
    later.say('<presence/>');
    await eventually(() => expect(later.bodies).toHaveLength(40), { timeoutMs: 20_000 });
  });

  it('nor more octets of what others send: the session ends, and what it held is returned in order', () => {
    const told: string[] = [];
    const host = { onEnded: () => told.push('ended'), onReceived() {} };
    const stream = { send() {}, requestAck() {}, end: (error?: StreamError) => told.push(`${error?.condition}`) };
    const session = new Session(parseJid('guest@localhost/desk'), host, stream);
    session.enable(true);
    const stanza = element('message', CLIENT, { to: session.address }, 'x'.repeat(UNACKNOWLEDGED_WEIGHT_MAX / 4));
    for (let index = 0; index < 3; index += 1) {
      const settlement = { delivered: () => told.push(`acked ${index}`), returned: () => told.push(`back ${index}`) };
      session.deliver(stanza, settlement);
    }
    session.acknowledge(1);
    expect(told).toEqual(['acked 0']);
    session.deliver(stanza);
    expect(told).toEqual(['acked 0']);
    session.deliver(stanza);
    expect(told).toEqual(['acked 0', 'policy-violation', 'ended', 'back 1', 'back 2']);
  });
});

describe('a resource that is bound twice', () => {
  it('belongs to the later one; what the earlier held goes to it', async () => {
    const { raw } = await ready(scene, 'desk');
    await follow(raw);
    scene.publish(logs, '', 'one');
    await raw.until('<body>one<');
    const later = await scene.login('desk');
    later.say('<presence/>');
    await later.until('<body>one<');
    expect(await raw.ended()).toContain('<conflict');
  });
});

describe('the counters', () => {
  it('wrap at 2^32', () => {
    const sent = new Unacknowledged();
    let delivered = 0;
    const settlement = {
      delivered() {
        delivered += 1;
      },
      returned() {},
    };
    const outgoing = { stanza: element('message', 'jabber:client'), settlement, atMs: 0 };
    sent.acknowledge(0);
    expect(() => sent.acknowledge(2 ** 32 - 1)).toThrow(OverAcknowledged);
    for (let index = 0; index < 3; index += 1) sent.add(outgoing);
    sent.acknowledge(2);
    expect(delivered).toBe(2);
    expect(() => sent.acknowledge(1)).toThrow(OverAcknowledged);
    expect(() => sent.acknowledge(4)).toThrow(OverAcknowledged);
    sent.acknowledge(3);
    expect(delivered).toBe(3);
  });

  it('count what is done without a gap', () => {
    const handled = new Handled();
    const [first, second, third] = [handled.begin(), handled.begin(), handled.begin()];
    expect(handled.done(second)).toBe(false);
    expect(handled.h).toBe('0');
    expect(handled.done(first)).toBe(true);
    expect(handled.h).toBe('2');
    handled.done(third);
    expect([handled.h, handled.outstanding]).toEqual(['3', 0]);
  });
});

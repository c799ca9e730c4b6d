/** What a domain of exchanges answers: the bot, ad-hoc commands, disco, publish-subscribe; and owners of addresses. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createMessage } from '../../../broker/message.ts';
import { DIRECTED_MAX } from '../../../gateways/xmpp/account.ts';
import { element, type JidOwner } from '../../../gateways/xmpp/gateway.ts';
import { eventually } from '../../support/eventually.ts';
import { type RawClient, useXmpp } from './scene.ts';

const scene = useXmpp({ xmpp: { delayMsMin: 20 } });
let raw: RawClient;
beforeEach(async () => {
  raw = await scene.login('desk');
});
afterEach(async () => {
  const { exchanges, queues } = await scene.broker.snapshot('/');
  for (const { name } of exchanges.filter((one) => !/^(amq\..*|)$/.test(one.name)))
    await scene.channel.deleteExchange(name);
  for (const { name } of queues) await scene.channel.deleteQueue(name);
});

/** Says a line to the bot and answers what it said. */
async function tell(line: string, who = raw): Promise<string> {
  who.say(`<message type='chat' to='broker.localhost' id='q'><body>${line}</body></message>`);
  const answer = await who.until(
    /<message from="broker\.localhost"[^>]*type="chat"[^>]*><body>.*?<\/body><\/message>/s,
  );
  return /<body>(.*)<\/body>/s.exec(answer.slice(answer.lastIndexOf('<message')))?.[1] ?? '';
}

async function exchangeTypes(): Promise<Record<string, [string, boolean]>> {
  const { exchanges } = await scene.broker.snapshot('/');
  return Object.fromEntries(exchanges.map(({ name, type, durable }) => [name, [type, durable]]));
}

async function ask(payload: string, to = 'broker.localhost', type = 'get'): Promise<string> {
  raw.say(`<iq type='${type}' id='a' to='${to}'>${payload}</iq>`);
  return raw.until(/<iq type="(result|error)"[^>]*id="a"[^>]*(\/>|>.*<\/iq>)/s);
}

describe('the bot', () => {
  it('helps', async () => {
    expect(await tell('help')).toMatch(
      /help \[COMMAND\].*exchange\.declare NAME \[-type T\] \[-transient\].*list \[EXCHANGE\]/s,
    );
    expect(await tell('help bind')).toContain('bind EXCHANGE JID [KEY]');
    expect(await tell('make me a sandwich')).toMatch(/I do not know "make".*Commands:/s);
    expect(await tell('exchange.declare')).toMatch(/missing.*exchange\.declare NAME/s);
  });

  it('declares and deletes exchanges, and lists them', async () => {
    expect(await tell('exchange.declare news')).toContain('news@broker.localhost');
    expect(await tell('exchange.declare quick -type topic -transient')).toContain('quick');
    expect(await exchangeTypes()).toMatchObject({ news: ['fanout', true], quick: ['topic', false] });
    expect(await tell('list')).toMatch(
      /amq\.direct \(direct, durable\)\n.*news \(fanout, durable\)\nquick \(topic, transient\)/s,
    );
    expect(await tell('exchange.declare news -type direct')).toContain("inequivalent arg 'type'");
    expect(await tell('exchange.declare amq.mine')).toContain('reserved');
    expect(await tell('exchange.declare odd -type sideways')).toContain('That did not work');
    expect(await tell('exchange.delete quick')).toContain('deleted');
    expect(await tell('exchange.delete quick')).toContain("no exchange 'quick'");
  });

  it('binds with the consent of who is to follow, and unbinds', async () => {
    await tell('exchange.declare news');
    const anna = await scene.login('home', 'anna');
    anna.say('<presence/>');
    expect(await tell('bind news anna@localhost k')).toContain('anna@localhost has been asked');
    await anna.until('<presence type="subscribe" from="news+k@broker.localhost"');
    expect((await scene.broker.snapshot('/')).bindings).toEqual([]);
    anna.say("<presence type='subscribed' to='news+k@broker.localhost'/>");
    await anna.until(/<presence (?![^>]*type)from="news\+k@broker\.localhost\/k"/);
    expect(await tell('list news')).toBe('anna@localhost k');
    scene.publish('news', 'k', 'hello');
    await anna.until('<body>hello<');
    expect(await tell('unbind news anna@localhost k')).toContain('does not follow');
    await anna.until('type="unsubscribe"');
    expect(await tell('list news')).toBe("nobody follows 'news'");
    expect(await tell('unbind news anna@localhost')).toContain('does not follow');
    expect(await tell('bind news romeo@montague.net')).toContain('no way to romeo@montague.net');
    await eventually(async () => expect((await scene.broker.snapshot('/')).queues).toEqual([]));
  });

  it('does nothing that the one who asks may not do himself', async () => {
    const { administration } = scene.broker;
    await administration.putUser({ name: 'carl', password: 'secret' });
    await administration.setPermission({ vhost: '/', user: 'carl', configure: '^carls', write: '', read: '' });
    await tell('exchange.declare news');
    const carl = await scene.login('desk', 'carl');
    expect(await tell('exchange.declare mine', carl)).toContain('refused for user &apos;carl'.replace('&apos;', "'"));
    expect(await tell('exchange.delete news', carl)).toContain('refused');
    expect(await tell('bind news carl@localhost', carl)).toContain('refused');
    expect(await tell('exchange.declare carls', carl)).toContain('is there');
    await administration.clearPermission('/', 'carl');
    await administration.deleteUser('carl');
  });
});

describe('disco', () => {
  it('says what the domain is, and lists the exchanges', async () => {
    await scene.channel.declareExchange({ exchange: 'Logs', type: 'topic' });
    const info = await ask("<query xmlns='http://jabber.org/protocol/disco#info'/>");
    for (const [category, type] of [
      'component/generic',
      'component/router',
      'component/presence',
      'client/bot',
      'gateway/amqp',
      'hierarchy/branch',
    ].map((one) => one.split('/'))) {
      expect(info).toContain(`<identity category="${category}" type="${type}"`);
    }
    const items = await ask("<query xmlns='http://jabber.org/protocol/disco#items'/>");
    expect(items).toContain('<item jid="amq.topic@broker.localhost" name="amq.topic"/>');
    expect(items).toContain('<item jid="logs@broker.localhost" name="Logs"/>');
  });

  it('says what an exchange is', async () => {
    const info = await ask("<query xmlns='http://jabber.org/protocol/disco#info'/>", 'amq.topic@broker.localhost');
    expect(info).toContain('<identity category="component" type="bot" name="AMQP Exchange"/>');
    expect(info).toContain('<identity category="hierarchy" type="leaf"/>');
    expect(info).toContain('<feature var="amqp-exchange"/><feature var="amqp-exchange-topic"/>');
    expect(await ask("<query xmlns='http://jabber.org/protocol/disco#info'/>", 'no@broker.localhost')).toContain(
      'item-not-found',
    );
  });

  it('shows nothing of a virtual host to somebody who may not enter it', async () => {
    const { administration } = scene.broker;
    await administration.putUser({ name: 'outsider', password: 'secret' });
    const outsider = await scene.login('desk', 'outsider');
    const [info, items] = ['info', 'items'].map((what) => `http://jabber.org/protocol/disco#${what}`);
    for (const [to, query] of [
      ['broker.localhost', `<query xmlns='${items}'/>`],
      ['broker.localhost', `<query xmlns='${items}' node='amq.topic'/>`],
      ['broker.localhost', `<query xmlns='${info}' node='amq.topic'/>`],
      ['amq.topic@broker.localhost', `<query xmlns='${info}'/>`],
    ]) {
      outsider.say(`<iq type='get' id='o' to='${to}'>${query}</iq>`);
      expect(await outsider.until('</iq>')).toMatch(/type="error".*<not-allowed /);
    }
    await administration.deleteUser('outsider');
  });

  it('leads from the users to the exchanges', async () => {
    expect(await ask("<query xmlns='http://jabber.org/protocol/disco#items'/>", 'localhost')).toContain(
      '<item jid="broker.localhost"',
    );
    expect(await ask("<query xmlns='jabber:iq:version'/>", 'localhost')).toContain('<name>Warren</name>');
    expect(await ask("<time xmlns='urn:xmpp:time'/>")).toMatch(/<utc>\d{4}-.*Z<\/utc>/);
  });
});

describe('ad-hoc commands', () => {
  const COMMANDS = "xmlns='http://jabber.org/protocol/commands'";
  const form = (fields: Record<string, string>): string =>
    `<x xmlns='jabber:x:data' type='submit'>${Object.entries(fields)
      .map(([name, value]) => `<field var='${name}'><value>${value}</value></field>`)
      .join('')}</x>`;

  it('are the verbs of the bot, with forms', async () => {
    const list = await ask(
      "<query xmlns='http://jabber.org/protocol/disco#items' node='http://jabber.org/protocol/commands'/>",
    );
    expect([...list.matchAll(/node="([a-z.]+)"/g)].map(([, node]) => node)).toEqual([
      'exchange.declare',
      'exchange.delete',
      'bind',
      'unbind',
      'list',
    ]);
    const first = await ask(`<command ${COMMANDS} node='exchange.declare' action='execute'/>`, undefined, 'set');
    expect(first).toMatch(
      /status="executing".*<field var="exchange" [^>]*type="text-single"><required\/>.*<field var="type"[^>]*type="list-single">/s,
    );
    const session = /sessionid="([^"]*)"/.exec(first)?.[1] ?? '';
    const fields = form({ exchange: 'made', type: 'headers', transient: '1' });
    const second = await ask(
      `<command ${COMMANDS} node='exchange.declare' sessionid='${session}' action='complete'>${fields}</command>`,
      undefined,
      'set',
    );
    expect(second).toMatch(/status="completed".*<note type="info">/s);
    expect(await exchangeTypes()).toMatchObject({ made: ['headers', false] });
  });

  it('can be cancelled, and refuse what is wrong', async () => {
    expect(await ask(`<command ${COMMANDS} node='list' sessionid='s' action='cancel'/>`, undefined, 'set')).toContain(
      'status="canceled"',
    );
    expect(await ask(`<command ${COMMANDS} node='nothing'/>`, undefined, 'set')).toContain('item-not-found');
    const empty = form({ exchange: '' });
    expect(
      await ask(
        `<command ${COMMANDS} node='exchange.delete' sessionid='s' action='complete'>${empty}</command>`,
        undefined,
        'set',
      ),
    ).toContain('bad-request');
  });
});

describe('an owner of an address', () => {
  it('gets its stanzas, answers, and is a contact like any other', async () => {
    const echo: JidOwner = {
      onStanza(stanza) {
        const { from, to, type } = stanza.attributes;
        if (stanza.name === 'message') scene.door.send(stanza.with({ from: to, to: from }));
        if (stanza.name === 'presence' && type === 'subscribe') {
          scene.door.send(stanza.with({ from: to, to: from, type: 'subscribed' }));
          scene.door.send(stanza.with({ from: to, to: from, type: undefined }));
        }
      },
    };
    const end = scene.door.register('echo@broker.localhost', echo);
    expect(() => scene.door.register('Echo@Broker.Localhost', echo)).toThrow(RangeError);
    raw.say("<presence/><presence type='subscribe' to='echo@broker.localhost'/>");
    await raw.until('<presence type="subscribed" to="guest@localhost/desk" from="echo@broker.localhost"');
    raw.say("<message to='echo@broker.localhost/x'><body>ping</body></message>");
    await raw.until('<message to="guest@localhost/desk" from="echo@broker.localhost/x"><body>ping<');
    end();
    raw.say("<message to='echo@broker.localhost'><body>ping</body></message>");
    await raw.until('item-not-found');
  });

  it('is told that no more than so many are there by each session', async () => {
    const gone = new Set<string>();
    const end = scene.door.register('many.localhost', {
      onStanza({ attributes: { type } }, { local }) {
        if (type === 'unavailable') gone.add(local);
      },
    });
    const raw = await scene.login('teller');
    for (let index = 0; index <= DIRECTED_MAX; index += 1) raw.say(`<presence to='n${index}@many.localhost'/>`);
    await raw.settled();
    raw.socket.destroy();
    await eventually(() => expect(gone.size).toBe(DIRECTED_MAX));
    end();
  });

  it('may own a domain, may fail, and has its deliveries settled', async () => {
    const end = scene.door.register('bots.localhost', {
      onStanza() {
        throw new Error('a defect');
      },
    });
    const uncaught: unknown[] = [];
    const listeners = process.listeners('uncaughtException');
    process.removeAllListeners('uncaughtException');
    process.once('uncaughtException', (error) => uncaught.push(error));
    raw.say("<message to='any@bots.localhost' id='e'><body>x</body></message>");
    await raw.until('internal-server-error');
    await eventually(() => expect(uncaught).toHaveLength(1));
    for (const listener of listeners) process.on('uncaughtException', listener);
    end();
    const seen: string[] = [];
    raw.say('<presence/>');
    await raw.until('<presence');
    scene.door.send(
      element(
        'message',
        'jabber:client',
        { from: 'bot@bots.localhost', to: 'guest@localhost/desk' },
        element('body', 'jabber:client', {}, 'hi'),
      ),
      { delivered: () => seen.push('delivered'), returned: () => seen.push('returned') },
    );
    await raw.until('<body>hi<');
    await eventually(() => expect(seen).toEqual(['delivered']));
    scene.door.send(element('message', 'jabber:client', { from: 'bot@bots.localhost', to: 'guest@localhost/gone' }), {
      delivered: () => seen.push('delivered'),
      returned: () => seen.push('returned'),
    });
    await eventually(() => expect(seen).toEqual(['delivered', 'returned']));
  });
});

describe('messages', () => {
  it('text is text whatever its type; octets are base64; properties and headers come along and go back', async () => {
    await scene.channel.declareExchange({ exchange: 'x', type: 'fanout' });
    raw.say("<presence/><presence type='subscribe' to='x@broker.localhost'/>");
    await raw.until('type="subscribed"');
    const octets = Uint8Array.of(0, 1, 2, 255);
    const headers = {
      n: 1,
      big: 2n ** 60n,
      ok: true,
      d: 1.5,
      none: null,
      at: new Date(1_700_000_000_000),
      deep: { list: ['a', octets] },
    };
    const properties = {
      contentType: 'application/octet-stream',
      headers,
      priority: 3,
      messageId: 'm1',
      correlationId: 'c1',
      replyTo: 'r',
      expiration: '60000',
      timestamp: 1_700_000_000,
    };
    scene.channel.publish(createMessage({ exchange: 'x', routingKey: 'k', body: octets, properties }));
    const said = await raw.until('</message>');
    const stanza = said.slice(said.lastIndexOf('<message'));
    expect(stanza).toContain('id="m1"');
    expect(stanza).toContain('<body>[application/octet-stream, 4 octets]</body><thread>c1</thread>');
    expect(stanza).toContain('<body encoding="base64">AAEC/w==</body>');
    const [, amqp = ''] = /(<amqp.*<\/amqp>)/s.exec(stanza) ?? [];

    await scene.channel.declareExchange({ exchange: 'y', type: 'fanout' });
    const { queue } = await scene.channel.declareQueue({ queue: 'back', exclusive: true });
    await scene.channel.bind({ source: 'y', destination: queue, destinationKind: 'queue', bindingKey: '' });
    raw.say(`<message to='y@broker.localhost/k'>${amqp}</message>`);
    await raw.settled();
    const got = await scene.channel.get(queue, { noAck: true });
    expect(got?.message.body).toEqual(octets);
    const { headers: back, ...rest } = got?.message.properties ?? {};
    expect(rest).toEqual({ ...properties, headers: undefined, userId: 'guest' });
    expect(back).toEqual(headers);
    scene.publish('x', '', '{"json":true}', { contentType: 'application/json' });
    await raw.until('<body>{"json":true}</body>');
    scene.publish('x', '', 'nul\0');
    await raw.until('<body>[binary, 4 octets]</body>');
  });

  it('that have waited say since when', async () => {
    await scene.channel.declareExchange({ exchange: 'x', type: 'fanout' });
    raw.say("<presence/><presence type='subscribe' to='x@broker.localhost'/>");
    await raw.until('type="subscribed"');
    raw.say("<presence type='unavailable'/>");
    await raw.settled();
    const from = Date.now();
    scene.publish('x', '', 'one');
    const to = Date.now();
    await eventually(() => expect(Date.now()).toBeGreaterThan(to + 30));
    raw.say('<presence/>');
    const [, stamp = ''] =
      /<body>one<.*<delay xmlns="urn:xmpp:delay" from="broker\.localhost" stamp="([^"]*)"\/>/.exec(
        await raw.until('</message>'),
      ) ?? [];
    expect(Date.parse(stamp)).toBeGreaterThanOrEqual(from);
    expect(Date.parse(stamp)).toBeLessThanOrEqual(to);
  });

  it('too large for a stanza: dead-lettered, and its receiver told', async () => {
    await scene.channel.declareExchange({ exchange: 'x', type: 'fanout' });
    await scene.channel.declareQueue({ queue: 'dead' });
    raw.say("<presence/><presence type='subscribe' to='x@broker.localhost'/>");
    await raw.until('type="subscribed"');
    scene.publish('x', '', 'y'.repeat(300_000), { messageId: 'big' });
    scene.publish('x', '', 'after');
    expect(await raw.until('<body>after<')).toContain('<body>[message "big" of 300000 octets is too large for XMPP');
    const view = (await scene.broker.snapshot('/')).queues.find(({ name }) => name === 'guest@localhost');
    expect(view?.messagesReady).toBe(0);
  });

  it('to a queue, by its address', async () => {
    await scene.channel.declareQueue({ queue: 'Orders' });
    raw.say("<message to='queue+\\4frders@broker.localhost'><body>one</body></message>");
    await raw.settled();
    expect(new TextDecoder().decode((await scene.channel.get('Orders', { noAck: true }))?.message.body)).toBe('one');
  });
});

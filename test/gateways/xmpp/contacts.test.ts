/** Exchanges as contacts on the client port: following, names, what other doors do to a binding, priorities. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { eventually } from '../../support/eventually.ts';
import { type RawClient, useXmpp } from './scene.ts';

const scene = useXmpp();

/** Another one for each test: contacts of the one before may still be on their way out. */
let logs = 'logs0';
beforeEach(async () => {
  logs = `logs${Number(logs.slice(4)) + 1}`;
  await scene.channel.declareExchange({ exchange: logs, type: 'topic' });
});
afterEach(async () => {
  await scene.channel.deleteExchange(logs);
  await eventually(async () => expect((await scene.broker.snapshot('/')).queues).toEqual([]));
});

/** The exchange of the test in the place of `$X`. */
function x(text: string): string {
  return text.replaceAll('$X', logs);
}

function pattern(text: string): RegExp {
  return new RegExp(x(text), 's');
}

async function follow(raw: RawClient, contact: string): Promise<void> {
  raw.say(`<presence type='subscribe' to='${contact}'/>`);
  await raw.until(/<presence[^>]*type="subscribed"[^>]*\/>/);
  await raw.until(/<presence (?![^>]*type)[^>]*\/>/);
}

async function queue(name = 'guest@localhost') {
  return (await scene.broker.snapshot('/')).queues.find((one) => one.name === name);
}

describe('a contact that is an exchange', () => {
  it('is a binding; taking it off the roster takes the binding away, and the inbox with the last', async () => {
    const raw = await scene.login('desk');
    raw.say("<iq type='get' id='r'><query xmlns='jabber:iq:roster'/></iq><presence/>");
    await raw.until('id="r"');
    raw.say(
      x(
        "<iq type='set' id='s'><query xmlns='jabber:iq:roster'><item jid='$X@broker.localhost/a.#' name='Logs'><group>G</group></item></query></iq>",
      ),
    );
    await raw.until(/type="result"[^>]*id="s"/);
    await follow(raw, `${logs}@broker.localhost/a.#`);
    await follow(raw, `${logs}@broker.localhost/b`);
    const { bindings } = await scene.broker.snapshot('/');
    expect(bindings.map(({ source, destination, bindingKey }) => [source, destination, bindingKey])).toEqual([
      [logs, 'guest@localhost', 'a.#'],
      [logs, 'guest@localhost', 'b'],
    ]);
    expect(await queue()).toMatchObject({ durable: true, exclusive: false, autoDelete: false });
    raw.say("<iq type='get' id='r2'><query xmlns='jabber:iq:roster'/></iq>");
    expect(await raw.until('</query></iq>')).toContain(
      `<item jid="${logs}@broker.localhost/a.#" name="Logs" subscription="both"><group>G</group></item>`,
    );
    raw.say(
      x(
        "<iq type='set' id='x'><query xmlns='jabber:iq:roster'><item jid='$X@broker.localhost/a.#' subscription='remove'/></query></iq>",
      ),
    );
    await raw.until('subscription="remove"');
    await eventually(async () => expect((await scene.broker.snapshot('/')).bindings).toHaveLength(1));
    raw.say(x("<presence type='unsubscribe' to='$X@broker.localhost/b'/>"));
    await raw.until('subscription="none"');
    await eventually(async () => expect(await queue()).toBeUndefined());
  });

  it('is none when it is given up before it is made', async () => {
    const raw = await scene.login('desk');
    raw.say('<presence/>');
    const presence = (type: string): string => `<presence type='${type}' to='${logs}@broker.localhost/k'/>`;
    raw.say(presence('subscribe') + presence('unsubscribe'));
    await raw.until('type="unsubscribe"');
    await eventually(async () => expect(await queue()).toBeUndefined());
    expect((await scene.broker.snapshot('/')).bindings).toEqual([]);
    // And the other way round: what is wanted last holds.
    raw.say(presence('subscribe') + presence('unsubscribe') + presence('subscribe'));
    await raw.settled();
    await eventually(async () => expect((await scene.broker.snapshot('/')).bindings).toHaveLength(1));
    await raw.settled();
    raw.say("<iq type='get' id='r'><query xmlns='jabber:iq:roster'/></iq>");
    expect(await raw.until('</query></iq>')).toContain('subscription="both"');
  });

  it('answers unsubscribed when there is no such exchange', async () => {
    const raw = await scene.login('desk');
    raw.say("<presence/><presence type='subscribe' to='nothing@broker.localhost'/>");
    await raw.until(/<presence type="error"[^>]*>.*item-not-found/);
    expect(await queue()).toBeUndefined();
  });

  it('may have its key in the local part, and speaks from there', async () => {
    const raw = await scene.login('desk');
    raw.say('<presence/>');
    await follow(raw, `${logs}+*.\\49\\42\\4d@broker.localhost`);
    expect((await scene.broker.snapshot('/')).bindings).toMatchObject([{ bindingKey: '*.IBM' }]);
    scene.publish(logs, 'stock.IBM', 'up');
    await raw.until(
      pattern('<message from="$X\\+\\*\\.\\\\49\\\\42\\\\4d@broker\\.localhost/stock\\.IBM"[^>]*><body>up<'),
    );
    raw.say(x("<message to='$X+stock.\\49\\42\\4d@broker.localhost'><body>down</body></message>"));
    await raw.until('<body>down<');
    raw.say(x("<message to='$X+*.\\49\\42\\4d@broker.localhost/stock.IBM'><body>back</body></message>"));
    await raw.until(/routing-key="stock\.IBM"/);
    raw.say(x("<presence type='unsubscribed' to='$X+*.\\49\\42\\4d@broker.localhost'/>"));
  });

  it('unsubscribes everybody when it is deleted by any door', async () => {
    const raw = await scene.login('desk');
    raw.say('<presence/>');
    await follow(raw, `${logs}@broker.localhost/#`);
    await scene.channel.deleteExchange(logs);
    await raw.until(pattern('<presence type="unsubscribed" from="$X@broker\\.localhost/#"'));
    await raw.until(pattern('<presence type="unsubscribe" from="$X@broker\\.localhost/#"'));
  });

  it('unsubscribes one whose binding another door takes away', async () => {
    const raw = await scene.login('desk');
    raw.say('<presence/>');
    await follow(raw, `${logs}@broker.localhost/k`);
    const [binding] = (await scene.broker.snapshot('/')).bindings;
    if (binding !== undefined) await scene.channel.unbind(binding);
    await raw.until(pattern('<presence type="unsubscribed" from="$X@broker\\.localhost/k"'));
  });

  it('is there again at the next login, and was told so by a probe', async () => {
    const first = await scene.login('desk');
    first.say('<presence/>');
    await follow(first, `${logs}@broker.localhost/k`);
    first.say('</stream:stream>');
    await first.ended();
    const second = await scene.login('desk');
    second.say('<presence/>');
    await second.until(pattern('<presence from="$X@broker\\.localhost/k" to="guest@localhost/desk"/>'));
    second.say(x("<presence type='unsubscribe' to='$X@broker.localhost/k'/>"));
  });

  it('of an exchange whose name differs by case only from another: neither is picked', async () => {
    const upper = logs.toUpperCase();
    const exact = `\\4c\\4f\\47\\53${logs.slice(4)}@broker.localhost`;
    await scene.channel.declareExchange({ exchange: upper, type: 'fanout' });
    const raw = await scene.login('desk');
    raw.say(x("<message to='$X@broker.localhost' id='m'><body>x</body></message>"));
    const refusal = await raw.until('</message>');
    expect(refusal).toContain('<conflict ');
    expect(refusal).toContain(`${exact} (${upper}), \\6c${logs.slice(1)}@broker.localhost (${logs})`);
    raw.say('<presence/>');
    await follow(raw, exact);
    scene.publish(upper, '', 'loud');
    scene.publish(logs, '', 'quiet');
    const heard = await raw.until('<body>loud<');
    expect(heard).toContain(`<message from="${exact}"`);
    expect(await raw.settled()).not.toContain('quiet');
    await scene.channel.deleteExchange(upper);
    raw.say(x("<message to='$X@broker.localhost' id='m2'><body>fine now</body></message>"));
    expect(await raw.settled()).not.toContain('conflict');
  });

  it('names that begin with what an address cannot have, and differ by case: each has an address of its own', async () => {
    const raw = await scene.login('desk');
    const names = ['@Chats', '@chats'];
    for (const exchange of names) await scene.channel.declareExchange({ exchange, type: 'fanout' });
    raw.say("<message to='\\40chats@broker.localhost' id='m'><body>to whom?</body></message>");
    const refusal = await raw.until('</message>');
    for (const exchange of names) {
      const address = new RegExp(`(\\S+) \\(${exchange}\\)`).exec(refusal)?.[1];
      const { queue: temporary } = await scene.channel.declareQueue({ queue: '', exclusive: true });
      await scene.channel.bind({ source: exchange, destination: temporary, destinationKind: 'queue', bindingKey: '' });
      raw.say(`<message to='${address}' id='n'><body>x</body></message>`);
      expect(await raw.settled()).not.toContain('error');
      expect((await scene.channel.get(temporary, { noAck: true }))?.message.exchange).toBe(exchange);
      await scene.channel.deleteQueue(temporary);
    }
    for (const exchange of names) await scene.channel.deleteExchange(exchange);
  });

  it('any name that AMQP allows has an address', async () => {
    const names = ['Straße & Söhne', 'a@b/c', 'x+y', '"quoted"', '\\20', 'İstanbul', 'a\u0001b', '名前', '\ufeffbom'];
    const raw = await scene.login('desk');
    raw.say('<presence/>');
    for (const exchange of names) {
      await scene.channel.declareExchange({ exchange, type: 'fanout' });
      raw.say(
        "<iq type='get' id='i' to='broker.localhost'><query xmlns='http://jabber.org/protocol/disco#items'/></iq>",
      );
      const items = await raw.until('</query></iq>');
      const known = ['amq.', `${logs}@`];
      const addresses = [...items.matchAll(/jid="([^"]*)"/g)].map(([, jid = '']) => jid);
      const address = addresses.find((jid) => !known.some((start) => jid.startsWith(start))) ?? '';
      raw.say(`<message to='${address}' id='n'><body>to ${names.indexOf(exchange)}</body></message>`);
      const { queue: temporary } = await scene.channel.declareQueue({ queue: '', exclusive: true });
      await scene.channel.bind({ source: exchange, destination: temporary, destinationKind: 'queue', bindingKey: '' });
      raw.say(`<message to='${address}' id='n'><body>again</body></message>`);
      await raw.settled();
      expect((await scene.channel.get(temporary, { noAck: true }))?.message.exchange).toBe(exchange);
      await scene.channel.deleteQueue(temporary);
      await scene.channel.deleteExchange(exchange);
    }
  });
});

describe('who receives', () => {
  it('the resource of the highest priority; a negative one never; nobody there: it waits', async () => {
    const desk = await scene.login('desk');
    const phone = await scene.login('phone');
    desk.say('<presence><priority>1</priority></presence>');
    await follow(desk, `${logs}@broker.localhost/#`);
    phone.say('<presence><priority>5</priority></presence>');
    await phone.settled();
    scene.publish(logs, 'k', 'one');
    await phone.until('<body>one<');
    phone.say('<presence><priority>-1</priority></presence>');
    await phone.settled();
    scene.publish(logs, 'k', 'two');
    await desk.until('<body>two<');
    desk.say("<presence type='unavailable'/>");
    await desk.settled();
    scene.publish(logs, 'k', 'three');
    await eventually(async () => expect(await queue()).toMatchObject({ messagesReady: 1, consumers: [] }));
    expect((await desk.settled()) + (await phone.settled())).not.toContain('three');
    phone.say('<presence/>');
    await phone.until('<body>three<');
    phone.say(x("<presence type='unsubscribe' to='$X@broker.localhost/#'/>"));
    await phone.settled();
  });

  it('a client that is slow to read large messages gets them all', { timeout: 30_000 }, async () => {
    const raw = await scene.login('desk');
    raw.say('<presence/>');
    await follow(raw, `${logs}@broker.localhost/k`);
    raw.socket.pause();
    const text = 'x'.repeat(200_000);
    for (let index = 0; index < 120; index += 1) {
      scene.publish(logs, 'k', text);
      // Not all in one turn: what is written in one is known to be pending in the next.
      await new Promise((resolve) => setImmediate(resolve));
    }
    raw.socket.resume();
    await eventually(() => expect(raw.bodies).toHaveLength(120), { timeoutMs: 20_000, everyMs: 50 });
    expect(raw.closed).toBe(false);
  });

  it('without stream management a delivery is acked when the network has it', async () => {
    const desk = await scene.login('desk');
    desk.say('<presence/>');
    await follow(desk, `${logs}@broker.localhost/#`);
    scene.publish(logs, 'k', 'one');
    await desk.until('<body>one<');
    await eventually(async () => expect(await queue()).toMatchObject({ messagesReady: 0, messagesUnacked: 0 }));
    desk.say(x("<presence type='unsubscribe' to='$X@broker.localhost/#'/>"));
    await desk.settled();
  });
});

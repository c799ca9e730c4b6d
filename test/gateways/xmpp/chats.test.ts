/** Users of the client port among themselves: chats, copies, what waits, who follows whom; and while memory is short. */
import { beforeEach, describe, expect, it } from 'vitest';
import { createMessage } from '../../../broker/message.ts';
import { IN_HAND_LIMITS } from '../../../gateways/xmpp/client-stream.ts';
import { eventually } from '../../support/eventually.ts';
import { type RawClient, useXmpp } from './scene.ts';

const scene = useXmpp();
const watchful = useXmpp({ xmpp: { silenceMs: 20 } });
let raw: RawClient;
beforeEach(async () => {
  raw = await scene.login('desk');
});

describe('users among themselves', () => {
  it('talk, with copies for their other clients, and leave messages', async () => {
    raw.say("<presence/><iq type='set' id='c'><enable xmlns='urn:xmpp:carbons:2'/></iq>");
    await raw.until('id="c"');
    const phone = await scene.login('phone');
    phone.say("<presence/><iq type='set' id='c'><enable xmlns='urn:xmpp:carbons:2'/></iq>");
    await phone.until('id="c"');
    raw.say("<message to='anna@localhost' type='chat' id='m'><body>are you there?</body></message>");
    await phone.until(/<sent xmlns="urn:xmpp:carbons:2"><forwarded[^>]*>.*are you there\?/);
    await raw.settled();
    await eventually(async () => {
      const view = (await scene.broker.snapshot('/')).queues.find(({ name }) => name === 'anna@localhost');
      expect(view).toMatchObject({ messagesReady: 1, durable: true });
    });
    const anna = await scene.login('home', 'anna');
    anna.say('<presence/>');
    const heard = await anna.until('</message>');
    expect(heard).toMatch(/<message [^>]*from="guest@localhost\/desk"[^>]*>.*are you there\?/);
    anna.say("<message to='guest@localhost/desk' type='chat'><body>I am</body></message>");
    await raw.until('<body>I am<');
    await phone.until(/<received xmlns="urn:xmpp:carbons:2">.*I am/);
  });

  it('lose nothing that was on its way to one resource when that one goes; who asked something is told', async () => {
    const home = await scene.login('home', 'anna');
    home.say("<enable xmlns='urn:xmpp:sm:3'/><presence/>");
    await home.until('<presence');
    raw.say("<message to='anna@localhost/home' type='chat' id='m'><body>for home</body></message>");
    raw.say("<iq to='anna@localhost/home' type='get' id='q'><query xmlns='jabber:iq:version'/></iq>");
    await home.until('jabber:iq:version');
    // None of it acknowledged.
    home.socket.destroy();
    expect(await raw.until('</iq>')).toMatch(/<iq type="error" from="anna@localhost\/home"[^>]*id="q"/);
    const work = await scene.login('work', 'anna');
    work.say('<presence/>');
    await work.until(/<message [^>]*from="guest@localhost\/desk"[^>]*><body>for home</);
  });

  it('cannot leave messages in the name of somebody else, whatever they publish', async () => {
    const forged =
      "<message xmlns='jabber:client' from='berta@localhost/x' to='anna@localhost'><body>forged</body></message>";
    await scene.channel.declareQueue({ queue: 'anna@localhost', durable: true });
    const properties = { contentType: 'application/xmpp+xml', userId: 'guest' };
    scene.channel.publish(createMessage({ routingKey: 'anna@localhost', body: forged, properties }));
    const anna = await scene.login('home', 'anna');
    anna.say('<presence/>');
    expect(await anna.until('</message>')).toContain('<message from="queue+anna\\40localhost@broker.localhost"');
  });

  it('follow each other', async () => {
    const anna = await scene.login('home', 'anna');
    anna.say('<presence/>');
    raw.say("<presence/><presence type='subscribe' to='anna@localhost/home'/>");
    await anna.until('<presence type="subscribe" to="anna@localhost/home" from="guest@localhost"/>');
    anna.say("<presence type='subscribed' to='guest@localhost'/>");
    await raw.until('type="subscribed"');
    await raw.until(/<presence [^>]*from="anna@localhost\/home"/);
    anna.say('<presence><show>away</show></presence>');
    await raw.until('<show>away</show>');
    anna.say('</stream:stream>');
    await raw.until(/<presence type="unavailable"[^>]*from="anna@localhost\/home"/);
    raw.say("<iq type='get' id='r'><query xmlns='jabber:iq:roster'/></iq>");
    await raw.until('<item jid="anna@localhost" subscription="to"/>');
    raw.say(
      "<iq type='set' id='x'><query xmlns='jabber:iq:roster'><item jid='anna@localhost' subscription='remove'/></query></iq>",
    );
    await raw.until('id="x"');
  });
});

describe('while memory is short', () => {
  it('a client that publishes is let on when it is over; he is heard meanwhile', async () => {
    await scene.channel.declareQueue({ queue: 'held' });
    await scene.broker.administration.setAlarm('memory', true);
    const held = async (): Promise<number | undefined> =>
      (await scene.broker.snapshot('/')).queues.find(({ name }) => name === 'held')?.messagesReady;
    for (const body of ['one', 'two'])
      raw.say(`<message to='queue+held@broker.localhost'><body>${body}</body></message>`);
    await raw.settled();
    expect(await held()).toBe(0);
    await scene.broker.administration.setAlarm('memory', false);
    await eventually(async () => expect(await held()).toBe(2));
  });

  it('nobody is taken for dead because he is not read', async () => {
    const held = await watchful.login('desk');
    const free = await watchful.login('other');
    await watchful.broker.administration.setAlarm('memory', true);
    const message = "<message to='amq.fanout@broker.localhost'><body>one</body></message>";
    for (let count = 0; count < IN_HAND_LIMITS.count; count += 1) held.say(message);
    // Who is read, and says nothing, is dead by then.
    await free.ended();
    await watchful.broker.administration.setAlarm('memory', false);
    await held.settled();
  });
});

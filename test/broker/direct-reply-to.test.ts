import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createMessage } from '../../broker/message.ts';
import type { Channel } from '../../broker/port.ts';
import { type Core, Inbox, send, startCore, text } from '../support/core.ts';

const REPLY_TO = 'amq.rabbitmq.reply-to';

let core: Core;
let requester: Channel;
let responder: Channel;
let replies: Inbox;
let returned: string[];
beforeEach(async () => {
  core = await startCore();
  returned = [];
  requester = core.channel();
  responder = core.channel({ onReturn: (message) => void returned.push(text(message)) });
  replies = new Inbox();
  await requester.declareQueue({ queue: 'rpc' });
});
afterEach(() => core.broker.close());

const listen = (channel = requester, inbox = replies): Promise<string> =>
  channel.consume({ queue: REPLY_TO, noAck: true }, inbox);

/** Sends a request; the address at which its sender waits. */
async function request(channel = requester): Promise<string> {
  send(channel, 'rpc', 'question', { replyTo: REPLY_TO, correlationId: '1' });
  const got = await responder.get('rpc', { noAck: true });
  return got?.message.properties.replyTo ?? '';
}

describe('direct reply-to', () => {
  it('a reply goes straight to who asked', async () => {
    await listen();
    const address = await request();
    expect(address).toMatch(/^amq\.rabbitmq\.reply-to\.[\w-]{22}$/);
    send(responder, address, 'answer', { correlationId: '1' });
    expect(replies.delivered.map(({ body, tag, redelivered }) => [body, tag, redelivered])).toEqual([
      ['answer', 1, false],
    ]);
    expect(replies.delivered[0]?.message.properties.correlationId).toBe('1');
  });

  it('each channel has an address of its own, and keeps it', async () => {
    const other = core.channel();
    const otherReplies = new Inbox();
    await listen();
    await listen(other, otherReplies);
    const [first, again, second] = [await request(), await request(), await request(other)];
    expect([first === again, first === second]).toEqual([true, false]);
    send(responder, second, 'to the second');
    expect([replies.bodies, otherReplies.bodies]).toEqual([[], ['to the second']]);
  });

  it('another reply-to is nobody’s business', async () => {
    send(requester, 'rpc', 'question', { replyTo: 'a queue of mine' });
    expect((await responder.get('rpc'))?.message.properties.replyTo).toBe('a queue of mine');
  });

  it.each<[string, () => Promise<unknown>, string]>([
    ['consuming with acks', () => requester.consume({ queue: REPLY_TO }, replies), 'reply consumer cannot acknowledge'],
    ['consuming twice', async () => [await listen(), await listen()], 'reply consumer already set'],
    ['asking without consuming', () => request(), 'fast reply consumer does not exist'],
    [
      'asking after cancelling',
      async () => {
        await requester.cancel(await listen());
        return request();
      },
      'fast reply consumer does not exist',
    ],
  ])('%s is refused', async (_what, call, message) => {
    await expect(call()).rejects.toMatchObject({ kind: 'precondition-failed', message });
  });

  it('the tag is taken like any other', async () => {
    await requester.consume({ queue: REPLY_TO, noAck: true, consumerTag: 't' }, replies);
    await expect(requester.consume({ queue: 'rpc', consumerTag: 't' }, new Inbox())).rejects.toMatchObject({
      kind: 'not-allowed',
    });
  });

  it('an address is gone with its consumer or channel: replies to it come back', async () => {
    const tag = await listen();
    const address = await request();
    const answer = (body: string) => responder.publish(createMessage({ routingKey: address, body }), true);
    answer('in time');
    await requester.cancel(tag);
    answer('too late');
    await listen();
    const newAddress = await request();
    expect(newAddress).not.toBe(address);
    requester.close();
    responder.publish(createMessage({ routingKey: newAddress, body: 'much too late' }), true);
    expect(replies.bodies).toEqual(['in time']);
    expect(returned).toEqual(['too late', 'much too late']);
  });

  it('whether somebody is there can be asked; the pseudo queue always is', async () => {
    await listen();
    const address = await request();
    const there = { messageCount: 0, consumerCount: 1 };
    const ask = (queue: string) => responder.declareQueue({ queue, passive: true });
    expect(await ask(address)).toEqual({ queue: address, ...there });
    expect(await ask(REPLY_TO)).toEqual({ queue: REPLY_TO, ...there });
    requester.close();
    await expect(ask(address)).rejects.toMatchObject({ kind: 'not-found' });
  });

  it('replies go by the default exchange only, and an address cannot be bound', async () => {
    await listen();
    const address = await request();
    await expect(
      responder.bind({ source: 'amq.direct', destination: address, destinationKind: 'queue', bindingKey: 'k' }),
    ).rejects.toMatchObject({ kind: 'access-refused' });
    responder.publish(createMessage({ exchange: 'amq.direct', routingKey: address, body: 'astray' }), true);
    expect([returned, replies.bodies]).toEqual([['astray'], []]);
  });

  it('addresses of one virtual host mean nothing in another', async () => {
    await core.broker.administration.putVhost({ name: 'other' });
    await listen();
    const address = await request();
    const channel = (await core.broker.connect(undefined, 'other')).openChannel();
    send(channel, address, 'astray');
    expect(replies.bodies).toEqual([]);
  });

  it('two who answer each other from inside a delivery do so as often as they like', async () => {
    const other = core.channel();
    const otherReplies = new Inbox();
    await listen();
    await listen(other, otherReplies);
    const [address, otherAddress] = [await request(), await request(other)];
    replies.onNext = ({ body }) => send(requester, otherAddress, body);
    otherReplies.onNext = ({ body }) => {
      if (otherReplies.delivered.length < 10_000) send(other, address, body);
    };
    send(responder, address, 'ball');
    expect([replies.delivered.length, otherReplies.delivered.length]).toEqual([10_000, 10_000]);
  });
});

/** Queues as contacts: who has one on his list takes from it while he is there. */
import { describe, expect, it } from 'vitest';
import { eventually } from '../../support/eventually.ts';
import { useXmpp } from './scene.ts';

describe('a contact that is a queue', () => {
  const scene = useXmpp();

  it('is taken from while its follower is there, shared with others, and told when it goes', async () => {
    await scene.channel.declareQueue({ queue: 'jobs' });
    const consumers = async (): Promise<number | undefined> =>
      (await scene.broker.snapshot('/')).queues.find(({ name }) => name === 'jobs')?.consumers.length;
    const raw = await scene.login('desk');
    raw.say("<presence/><presence type='subscribe' to='queue+jobs@broker.localhost'/>");
    await raw.until('type="subscribed"');
    scene.publish('', 'jobs', 'one');
    await raw.until(/<message from="queue\+jobs@broker\.localhost"[^>]*><body>one</);
    raw.say("<presence type='unavailable'/>");
    await eventually(async () => expect(await consumers()).toBe(0));
    scene.publish('', 'jobs', 'two');
    raw.say('<presence/>');
    await raw.until('<body>two<');
    // The roster keeps it: the next login is enough.
    raw.socket.destroy();
    await eventually(async () => expect(await consumers()).toBe(0));
    const again = await scene.login('desk');
    again.say('<presence/>');
    await eventually(async () => expect(await consumers()).toBe(1));
    await scene.channel.deleteQueue('jobs');
    await again.until('<presence type="unsubscribe" from="queue+jobs@broker.localhost"');
  });

  it('that is not there is refused; one that is given up is not taken from', async () => {
    const raw = await scene.login('desk');
    raw.say("<presence/><presence type='subscribe' to='queue+nothing@broker.localhost'/>");
    await raw.until(/<presence type="error".*item-not-found/);
    await scene.channel.declareQueue({ queue: 'more' });
    raw.say("<presence type='subscribe' to='queue+more@broker.localhost'/>");
    await raw.until('type="subscribed"');
    raw.say("<presence type='unsubscribe' to='queue+more@broker.localhost'/>");
    await raw.until('type="unsubscribe"');
    await eventually(async () => {
      const view = (await scene.broker.snapshot('/')).queues.find(({ name }) => name === 'more');
      expect(view?.consumers).toEqual([]);
    });
  });

  it('is taken from although another one is not there', async () => {
    await scene.channel.declareQueue({ queue: 'there' });
    const raw = await scene.login('desk', 'berta');
    raw.say("<presence/><presence to='queue+nothing@broker.localhost'/><presence to='queue+there@broker.localhost'/>");
    scene.publish('', 'there', 'one');
    await raw.until('<body>one<');
  });
});

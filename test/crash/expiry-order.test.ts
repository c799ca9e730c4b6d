/** Messages whose time ends while they come back to their queue: found by the crash test, once in some thousand returns. */
import { expect, it } from 'vitest';
import { createBroker } from '../../broker/broker.ts';
import { createMessage } from '../../broker/message.ts';
import { Core, text } from '../support/core.ts';
import { ManualClock } from '../support/manual-clock.ts';

/** Time goes on with every look at it, as long as `isRunning`. */
class RunningClock extends ManualClock {
  isRunning = false;
  #elapsedMs = 0;

  override now(): number {
    if (this.isRunning) this.#elapsedMs += 1;
    return super.now() + this.#elapsedMs;
  }
}

it('they are dead-lettered in their order', async () => {
  const clock = new RunningClock();
  const broker = await createBroker({ clock });
  const core = new Core(clock, broker, await broker.connect());
  const channel = core.channel();
  await channel.declareQueue({ queue: 'expired' });
  await channel.declareQueue({
    queue: 'q',
    arguments: { 'x-message-ttl': 20, 'x-dead-letter-exchange': '', 'x-dead-letter-routing-key': 'expired' },
  });
  const numbers = Array.from({ length: 10 }, (_, index) => String(index));
  for (const body of numbers) channel.publish(createMessage({ routingKey: 'q', body }));
  const holder = core.channel();
  await core.consume(holder, 'q');
  clock.advance(8);
  // From here on, some of them are still alive when they are looked at and not any more when they are put back.
  clock.isRunning = true;
  holder.close();
  clock.isRunning = false;
  clock.advance(1000);
  const expired: string[] = [];
  for (let got = await channel.get('expired'); got; got = await channel.get('expired')) expired.push(text(got.message));
  expect(expired).toEqual(numbers);
  await broker.close();
});

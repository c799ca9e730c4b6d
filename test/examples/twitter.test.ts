/** Toy Twitter on Warren; test/slow/toy-twitter/ has the same on RabbitMQ. */
import { startEmbedded } from '../support/embedded-warren.ts';
import { twitterStories } from './twitter-stories.ts';

twitterStories(async () => {
  const warren = await startEmbedded();
  return { url: `amqp://${warren.host}:${warren.port}`, stop: () => warren.close() };
});

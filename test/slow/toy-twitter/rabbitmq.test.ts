/** Toy Twitter on RabbitMQ: the same program, unchanged. */
import { RABBITMQ } from '../../../bench/peers/rabbitmq.ts';
import { twitterStories } from '../../examples/twitter-stories.ts';
import { describeWith } from '../interop/foreign-program.ts';

describeWith('rabbitmq-server', ['dpkg-query', '-W', 'rabbitmq-server'])('RabbitMQ', () =>
  twitterStories(async () => {
    const { endpoint, stop } = await RABBITMQ.start();
    return { url: `amqp://${endpoint.username}:${endpoint.password}@${endpoint.host}:${endpoint.port}`, stop };
  }),
);

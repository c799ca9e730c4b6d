/** An engine that answers like another one, except where a test says otherwise: late, wrongly, or not at all. */
import type { Broker, Channel, ChannelEvents } from '../../broker/port.ts';

/** What a channel does in place of the verbs of `channel`, whose events it may call at any time. */
export type Deviation = (channel: Channel, events: Partial<ChannelEvents>) => Partial<Channel>;

/** `broker`, but the channels that are opened in it deviate. */
export function deviating(broker: Broker, deviation: Deviation): Broker {
  return override(broker, {
    connect: async (...args) => {
      const connection = await broker.connect(...args);
      return override(connection, {
        openChannel(events = {}, number) {
          const channel = connection.openChannel(events, number);
          return override(channel, deviation(channel, events));
        },
      });
    },
  });
}

/** `target` with other members; methods that are not replaced are called on `target` itself. */
function override<T extends object>(target: T, members: Partial<T>): T {
  return new Proxy(target, {
    get(_target, name) {
      if (Object.hasOwn(members, name)) return Reflect.get(members, name);
      const value: unknown = Reflect.get(target, name);
      return typeof value === 'function' ? value.bind(target) : value;
    },
  });
}

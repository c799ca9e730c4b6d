/** What a program gets from `import … from 'warren'`: the in-process broker and the port it answers to. */
export type * from './administration/administration.ts';
export { BODY_BYTES_MAX, type BrokerOptions, createBroker } from './broker.ts';
export { type Clock, systemClock } from './clock.ts';
export { RestoreError } from './definition-log.ts';
export { Decimal, type FieldTable, type FieldValue } from './fields.ts';
export { createMessage, Message, type MessageProperties } from './message.ts';
export type { BrokerEvent, DeathReason, Observer, ObserverScope } from './observer.ts';
export * from './port.ts';
export { StoreError } from './storage/store-error.ts';
export type { StoreNotice } from './store.ts';
export type * from './topology.ts';
export { VERSION } from './version.ts';

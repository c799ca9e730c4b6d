/** Whether this machine has IPv6; some containers do not. */
import { networkInterfaces } from 'node:os';

export const hasIpv6: boolean = Object.values(networkInterfaces())
  .flat()
  .some((address) => address?.address === '::1');

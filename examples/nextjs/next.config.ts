import type { NextConfig } from 'next';

const config: NextConfig = {
  output: 'standalone', // what the hosts get: 20 MB instead of the whole node_modules
  poweredByHeader: false,
};

export default config;

module.exports = {
  apps: [
    {
      name: 'app',
      script: 'server.js',
      exec_mode: 'cluster', // `pm2 reload` starts a new process before it stops an old one
      instances: 2, // several processes need a shared journal
      wait_ready: true, // a process is ready when it calls process.send('ready')
      listen_timeout: 10_000, // ms, for the start
      kill_timeout: 8000, // ms between SIGINT and SIGKILL; the default is 1600
    },
  ],
};

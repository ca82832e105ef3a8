export async function testClients() { return []; }

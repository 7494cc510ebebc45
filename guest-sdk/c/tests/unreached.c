/* Host calls that the tests do not reach: the linker wants them. Apart, since their types do not matter. */
#include <stdlib.h>
#define UNREACHED(name) \
    void exuvia_host_##name(void) { \
        abort(); \
    }
UNREACHED(call) UNREACHED(clock) UNREACHED(config) UNREACHED(demonitor) UNREACHED(cancel_timer) UNREACHED(exit) UNREACHED(exit_process)
UNREACHED(group_join) UNREACHED(group_leave) UNREACHED(info) UNREACHED(kill) UNREACHED(link) UNREACHED(monitor) UNREACHED(publish) UNREACHED(random)
UNREACHED(register) UNREACHED(request) UNREACHED(self) UNREACHED(send) UNREACHED(send_after) UNREACHED(sleep) UNREACHED(spawn) UNREACHED(trap_exit)
UNREACHED(unlink) UNREACHED(unregister) UNREACHED(whereis)

// Of parallel.h: who runs the tasks of a call, and where.
#pragma once

// False, and a line printed, where they do not behave.
bool threads_behave();

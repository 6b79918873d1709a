/* Where absolute paths begin, in tests that open none. */
#ifndef ROOT_H
#define ROOT_H

#ifdef _WIN32
#define ROOT "C:/"
#else
#define ROOT "/"
#endif

#endif
